import json

import pytest

from tests.cli.conftest import Run
from tests.cli.samples import detail, digest
from tests.cli.scripted import Raw, Request, Scripted, refusal

LAYERS = {
    "layers": [
        {
            "digest": digest("4"),
            "size": 3_600_000,
            "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
            "held": True,
            "shared_with": [f"docker.io/library/x{number}:1" for number in range(6)],
        },
        {"digest": digest("5"), "size": 20, "media_type": "x", "held": False, "shared_with": []},
    ]
}


# --- inspect ----------------------------------------------------------------------------------------------


def test_inspect_has_dockers_keys_and_more(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail()
    done = run("inspect", "alpine:3.20", "--platform", "linux/amd64")
    assert (done.exit_code, done.stderr) == (0, "")
    assert api.last.query == {"ref": ["alpine:3.20"], "platform": ["linux/amd64"]}
    (shown,) = json.loads(done.stdout)
    assert shown["Id"] == digest("a")
    assert shown["RepoTags"] == ["alpine:3.20", "alpine:latest"]
    assert shown["RepoDigests"] == [f"alpine@{digest('d')}"]
    assert (shown["Architecture"], shown["Os"], shown["Size"]) == ("amd64", "linux", 3_623_807)
    assert shown["Config"]["Env"] == ["PATH=/bin"]
    assert shown["RootFS"] == {"Type": "layers", "Layers": [digest("e"), digest("f")]}
    assert shown["MediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert [layer["size"] for layer in shown["Layers"]] == [3_600_000, 23_807]


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("{{.Id}}", digest("a")),
        ("{{.Config.Env}} {{index .RepoTags 0}}", "[PATH=/bin] alpine:3.20"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
        ("{{json .Config.Cmd}}", '["/bin/sh"]'),
        ("{{.Os}}/{{.Architecture}}", "linux/amd64"),
        ("{{len .RootFS.Layers}}", "2"),
    ],
)
def test_inspect_templates(api: Scripted, run: Run, form: str, shown: str) -> None:
    api["GET /image"] = detail()
    assert run("inspect", "-f", form, "alpine").stdout == f"{shown}\n"


@pytest.mark.parametrize(
    ("form", "says"),
    [("{{.Foo}}", "there is no .Foo; there is .Id"), ("{{.Id", "unclosed action"), ("{{.Id.x}}", "no fields")],
)
def test_a_template_that_does_not_fit(api: Scripted, run: Run, form: str, says: str) -> None:
    api["GET /image"] = detail()
    done = run("inspect", "-f", form, "alpine")
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_an_artifact_without_a_config_is_inspected_too(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail(config=None, id=None, created=None)
    (shown,) = json.loads(run("inspect", "x").stdout)
    assert (shown["Id"], shown["Created"], shown["Config"], shown["RootFS"]["Layers"]) == (digest("d"), "", {}, [])


def two(request: Request) -> Raw | dict[str, object]:
    if request.query["ref"] == ["gone"]:
        return refusal(404, "no such image here: gone", 4)
    return detail()


def test_what_is_not_there_does_not_stop_the_others(api: Scripted, run: Run) -> None:
    api["GET /image"] = two
    done = run("inspect", "gone", "alpine")
    assert (done.exit_code, len(json.loads(done.stdout))) == (3, 1)
    assert done.stderr == "mirror: 1 of 2 failed:\nmirror:   no such image here: gone\n"
    alone = run("inspect", "gone")
    assert (alone.exit_code, alone.stdout, alone.stderr) == (4, "[]\n", "mirror: no such image here: gone\n")
    assert run("inspect", "-f", "{{.Id}}", "gone").stdout == ""


@pytest.mark.parametrize(
    ("repository", "path", "query"),
    [
        ("docker.io/library/alpine", "library/alpine", {"ns": ["docker.io"]}),
        ("localhost:5000/x", "x", {"ns": ["localhost:5000"]}),
        ("local/team/app", "team/app", {}),
    ],
)
def test_raw_is_the_manifest_byte_for_byte(
    api: Scripted, run: Run, repository: str, path: str, query: dict[str, list[str]]
) -> None:
    stored = b'{\n   "schemaVersion": 2 }'
    api["GET /image"] = detail(repository=repository)
    api[f"GET /v2/{path}/manifests/{digest('d')}"] = Raw(200, stored)
    assert run("inspect", "--raw", "x").stdout_bytes == stored
    assert api.last.query == query
    assert "application/vnd.oci.image.index.v1+json" in api.last.headers["Accept"]


def test_a_manifest_that_cannot_be_read(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail()
    done = run("inspect", "--raw", "x")
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr == "mirror: the manifest of alpine cannot be read: the mirror said 404\n"


# --- history ----------------------------------------------------------------------------------------------


def test_history_is_dockers(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail()
    added = "/bin/sh -c #(nop) ADD file:" + "37a7" * 12 + " in /"
    assert run("history", "alpine").stdout == (
        f"IMAGE          CREATED              CREATED BY{' ' * (len(added) - 10 + 4)}SIZE      COMMENT\n"
        f"aaaaaaaaaaaa   About a minute ago   RUN x{' ' * (len(added) - 5 + 4)}23.8kB    buildkit.dockerfile.v0\n"
        f'<missing>      5 weeks ago          CMD ["/bin/sh"]{" " * (len(added) - 15 + 4)}0B\n'
        f"<missing>      5 weeks ago          {added}    3.6MB\n"
    )
    assert run("image", "history", "alpine").exit_code == 0


@pytest.mark.parametrize("words", [["--raw"], ["--no-human"]])
def test_history_in_bytes_and_full_times(api: Scripted, run: Run, words: list[str]) -> None:
    value = detail()
    api["GET /image"] = value
    shown = run("history", *words, "alpine").stdout
    assert "CREATED AT" in shown.splitlines()[0]
    assert " 3600000" in shown
    assert value["config"]["history"][0]["created"] in shown


def test_history_ids_and_templates(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail()
    assert run("history", "-q", "x").stdout == "aaaaaaaaaaaa\n<missing>\n<missing>\n"
    assert run("history", "-q", "--no-trunc", "x").stdout.splitlines()[0] == digest("a")
    assert run("history", "--format", "{{.CreatedBy}}|{{.Comment}}", "x").stdout.splitlines()[0] == (
        "RUN x|buildkit.dockerfile.v0"
    )
    steps = json.loads(run("history", "--format", "json", "x").stdout)
    assert [step["size"] for step in steps] == [23_807, 0, 3_600_000]


def test_steps_that_do_not_fit_the_layers_have_no_size(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail(layers=[])
    assert run("history", "--format", "{{.Size}}", "x").stdout == "-\n0B\n-\n"


def test_an_image_without_history_shows_its_layers(api: Scripted, run: Run) -> None:
    api["GET /image"] = detail(config=None)
    assert run("history", "--format", "{{.ID}} {{.CreatedSince}} {{.Size}}", "x").stdout == (
        "aaaaaaaaaaaa N/A 23.8kB\n<missing> N/A 3.6MB\n"
    )
    api["GET /image"] = detail(config=None, layers=[])
    assert run("history", "-q", "x").stdout == ""


# --- layers -----------------------------------------------------------------------------------------------


def test_layers_and_who_shares_them(api: Scripted, run: Run) -> None:
    api["GET /layers"] = LAYERS
    done = run("layers", "alpine")
    assert api.last.query == {"ref": ["alpine"]}
    assert done.stdout == (
        "LAYER          SIZE      HELD      SHARED WITH\n"
        "444444444444   3.6MB     yes       x0:1, x1:1, x2:1, x3:1, x4:1, x5:1\n"
        "555555555555   20B       no\n"
    )


def test_layers_in_bytes_and_whole(api: Scripted, run: Run) -> None:
    api["GET /layers"] = LAYERS
    assert run("layers", "--raw", "x").stdout.splitlines()[1].split()[1] == "3600000"
    assert digest("4") in run("layers", "--no-trunc", "x").stdout
    assert run("layers", "--format", "{{.MediaType}}", "x").stdout.splitlines()[1] == "x"
    assert json.loads(run("layers", "--format", "json", "x").stdout) == LAYERS["layers"]
