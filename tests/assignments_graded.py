"""Helpers: what a submission comes to in the grader's sandbox, or, faster, in this process."""

from pathlib import Path

from assignments.school import grading, manifest, worlds

ALL = manifest.load()


def reference(file, dialect="ours", assignments=ALL):
    return worlds.reference(file, dialect, assignments)


def changed(file, old, new, dialect="ours"):
    """The reference's source with a piece of it replaced, which must be there once."""
    source = reference(file, dialect)
    assert source.count(old) == 1, f"{file} holds {old!r} {source.count(old)} times"
    return source.replace(old, new)


class OnePart:
    """Grades single parts of given sources, with one worker and one grader an assignment."""

    def __init__(self, seconds=60.0, assignments=ALL):
        self._graders, self._worker, self._seconds = {}, grading.Worker(), seconds
        self._assignments = assignments

    def grader(self, name):
        if name not in self._graders:
            assignment = self._assignments[name]
            parts = max(len(parts) for parts in assignment.parts.values())
            self._graders[name] = grading.Grader(assignment, self._assignments, self._seconds * parts)
        return self._graders[name]

    def __call__(self, name, part, sources, dialect="ours"):
        result = grading.Result("submission", dialect)
        self.grader(name)._grade_part(part, sources, result, self._worker)
        return result

    def whole(self, name, path):
        return self.grader(name).grade(path, self._worker)

    def ask(self, request):
        return self._worker.ask(request)

    def close(self):
        self._worker.close()
        for grader in self._graders.values():
            grader.close()


def written(folder, sources):
    """A submission's folder."""
    for file, source in sources.items():
        (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / file).write_text(source, encoding="utf-8")
    return Path(folder)
