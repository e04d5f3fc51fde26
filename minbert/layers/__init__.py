"""Parts of the model beside the ones in bert.py: packed tokens, dropout, joins of pairs, heads, the compiled AdamW."""
