"""What the schema says of its keys."""

import ast
import inspect
import textwrap


def docstrings(cls: type) -> dict[str, str]:
    """Field → the line under it, which is its line in the manual."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: line.value.value
        for field, line in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    }
