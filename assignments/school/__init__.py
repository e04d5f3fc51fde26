"""What handout.py and grade.py share: the manifest, blanks, checks, the sandbox, reports."""
