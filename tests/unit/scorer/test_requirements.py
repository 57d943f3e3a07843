from pathlib import Path

import pytest

from services.scorer.build_log import DeploymentFailed
from services.scorer.requirements import EnvironmentSpec, normalise_requirements, read_environment_spec


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["Scikit_Learn == 1.9.1"], {"scikit-learn==1.9.1"}, id="spelling and blanks do not matter"),
        pytest.param(["# why", "", "numpy<3  # pinned"], {"numpy<3"}, id="comments and blank lines are dropped"),
        pytest.param(["a==1 ; python_version < '3.12'"], {"a==1; python_version < '3.12'"}, id="markers keep their blanks"),
        pytest.param(["code/My_Wheel.whl"], {"code/My_Wheel.whl"}, id="paths are left alone"),
        pytest.param(["pkg @ git+https://host/x#egg=pkg"], {"pkg @ git+https://host/x#egg=pkg"}, id="addresses are left alone"),
    ],
)
def test_normalise(lines: list[str], expected: set[str]) -> None:
    assert normalise_requirements(lines) == expected


def test_same_minor_and_requirements_share_an_environment() -> None:
    assert EnvironmentSpec("3.11.4", ("a==1",)).digest == EnvironmentSpec("3.11.9", ("a==1",)).digest
    assert EnvironmentSpec("3.11.4", ("a==1",)).digest != EnvironmentSpec("3.12.1", ("a==1",)).digest


def test_constraints_count_and_missing_mlflow_is_added(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("mlflow_version: 3.17.2\n")
    (tmp_path / "requirements.txt").write_text("-c constraints.txt\npandas\n")
    (tmp_path / "constraints.txt").write_text("pandas<4\n")
    spec = read_environment_spec(tmp_path, "3.11.7")
    assert spec.requirements == ("-c constraints.txt", "mlflow==3.17.2", "pandas")
    (tmp_path / "constraints.txt").write_text("pandas<3\n")
    assert read_environment_spec(tmp_path, "3.11.7").digest != spec.digest


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("python_env.yaml", b"", "python_env.yaml does not name anything: it must be a mapping.", id="an empty file"),
        pytest.param("python_env.yaml", b"python: [", "python_env.yaml is not YAML: while parsing .*", id="half a file"),
        pytest.param("requirements.txt", b"caf\xe9\n", "requirements.txt is not UTF-8: .*", id="another encoding"),
        pytest.param("requirements.txt", b"-c odd.txt\n", "odd.txt is not UTF-8: .*", id="an included file of another encoding"),
        pytest.param("MLmodel", None, "MLmodel cannot be read: No such file or directory.", id="a file that is not there"),
    ],
)
def test_files_that_cannot_be_understood_fail_the_deployment_with_a_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    """It once died of them again and again, and its neighbours' tidying with it."""
    (tmp_path / "MLmodel").write_text("mlflow_version: 3.17.2\n")
    (tmp_path / "odd.txt").write_bytes(b"\xff")
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(DeploymentFailed, match=f"^The model's {sentence}$"):
        read_environment_spec(tmp_path, "3.11.7")
