"""Files of the workspace over HTTP, as the Databricks CLI asks for them."""

from pathlib import Path

import httpx
import pytest

from services.ingress.workspace_files import MAX_FILE_BYTES, to_parts
from services.shared.errors import ParameterInvalid
from tests.unit.ingress.test_permissions import called_by

API = "/api/2.0/workspace"
IMPORT = "/api/2.0/workspace-files/import-file"
HOME = "/Workspace/Users/viewer"


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


async def test_a_file_is_kept_found_and_gone(tmp_path: Path) -> None:
    async with called_by("viewer", tmp_path) as http:
        place, folder = f"{HOME}/.bundle/a b/state.json", f"{HOME}/.bundle/a b"
        assert told(await http.post(f"{IMPORT}{place}", content=b"1")) == (404, "RESOURCE_DOES_NOT_EXIST"), "its folder is not there"
        for _ in range(2):
            assert (await http.post(f"{API}/mkdirs", json={"path": folder})).json() == {}
        assert (await http.post(f"{IMPORT}/{place[1:].replace('/', '%2F')}", content=b"one")).json() == {}
        assert told(await http.post(f"{IMPORT}{place}", content=b"two")) == (409, "RESOURCE_ALREADY_EXISTS")
        assert (await http.post(f"{IMPORT}{place}?overwrite=true", content=b"three")).json() == {}
        status = (await http.get(f"{API}/get-status", params={"path": place, "return_export_info": "true"})).json()
        assert (status["object_type"], status["size"], status["path"]) == ("FILE", 5, place.removeprefix("/Workspace"))
        assert (await http.get(f"{API}/export", params={"path": place, "direct_download": "true"})).content == b"three"
        assert (await http.get(f"{API}/export", params={"path": place})).json() == {"content": "dGhyZWU=", "file_type": "file"}
        listed = (await http.get(f"{API}/list", params={"path": folder})).json()["objects"]
        assert [(each["object_type"], each["path"]) for each in listed] == [("FILE", place.removeprefix("/Workspace"))]
        assert told(await http.post(f"{API}/delete", json={"path": folder})) == (400, "DIRECTORY_NOT_EMPTY")
        assert (await http.post(f"{API}/delete", json={"path": folder, "recursive": True})).json() == {}
        assert told(await http.get(f"{API}/get-status", params={"path": place})) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_everybody_has_a_home_that_is_their_own(tmp_path: Path) -> None:
    async with called_by("viewer", tmp_path) as http:
        assert (await http.get(f"{API}/get-status", params={"path": HOME})).json()["object_type"] == "DIRECTORY"
        for path in ("/", "/Users", "/Users/ada", "/Workspace/Users/ada/nothing", "/etc/passwd"):
            assert told(await http.get(f"{API}/get-status", params={"path": path})) == (403, "PERMISSION_DENIED")
        assert (await http.post(f"{IMPORT}/Shared/all", content=b"for all")).status_code == 200
        assert (await http.post(f"{IMPORT}/Users/viewer/mine", content=b"mine")).status_code == 200
    async with called_by("admin", tmp_path) as http:
        assert (await http.get(f"{API}/export", params={"path": "/Users/viewer/mine", "direct_download": "true"})).content == b"mine"


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        pytest.param("POST", f"{API}/mkdirs", {"path": f"{HOME}/file/below"}, (409, "RESOURCE_ALREADY_EXISTS"), id="a folder below a file"),
        pytest.param("POST", f"{API}/mkdirs", {}, (400, "INVALID_PARAMETER_VALUE"), id="no path"),
        pytest.param("POST", f"{API}/delete", {"path": "/Shared", "recursive": True}, (400, "INVALID_PARAMETER_VALUE"), id="a root"),
        pytest.param("GET", f"{API}/export?path={HOME}", None, (400, "INVALID_PARAMETER_VALUE"), id="reading a folder"),
        pytest.param("GET", f"{API}/get-status", None, (400, "INVALID_PARAMETER_VALUE"), id="nothing asked for"),
        pytest.param("POST", f"{IMPORT}{HOME}/file/below", {}, (404, "RESOURCE_DOES_NOT_EXIST"), id="a file below a file"),
        pytest.param("POST", f"{IMPORT}{HOME}?overwrite=true", {}, (400, "INVALID_PARAMETER_VALUE"), id="a file in place of a folder"),
    ],
)
async def test_refusals(method: str, path: str, body: dict[str, object] | None, error: tuple[int, str], tmp_path: Path) -> None:
    async with called_by("viewer", tmp_path) as http:
        await http.post(f"{IMPORT}{HOME}/file", content=b"1")
        assert told(await http.request(method, path, json=body)) == error


async def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with called_by("viewer", tmp_path) as http:
        assert told(await http.post(f"{IMPORT}{HOME}/big", content=b"x" * (MAX_FILE_BYTES + 1))) == (400, "BAD_REQUEST")


async def test_telemetry_is_taken(tmp_path: Path) -> None:
    async with called_by("viewer", tmp_path) as http:
        taken = await http.post("/telemetry-ext", json={"uploadTime": 1, "items": [], "protoLogs": ["{}", "{}"]})
        assert taken.json() == {"errors": [], "numSuccess": 0, "numProtoSuccess": 2}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("Users/ada", id="relative"),
        pytest.param("/Users/ada/../bob", id="upwards"),
        pytest.param("/Users/ada/./x", id="here"),
        pytest.param("/Users/a\0b", id="a NUL"),
        pytest.param("/Users/\ud800", id="a lone surrogate"),
        pytest.param("/" + "x" * 256, id="a long name"),
        pytest.param("/x" * 1_500, id="a long path"),
        pytest.param("", id="nothing"),
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(ParameterInvalid):
        to_parts(path)


@pytest.mark.parametrize("path", ["/Workspace/Users/ada", "/Users/ada", "//Users//ada/"])
def test_one_place_has_several_paths(path: str) -> None:
    assert to_parts(path) == ("Users", "ada")
