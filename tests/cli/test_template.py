import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cli.template import Template
from mirror.cli.template_functions import TemplateError

VALUE: dict[str, Any] = {
    "Repository": "alpine",
    "Tag": None,
    "Labels": {"b": "2", "a": "1"},
    "RepoTags": ["x:1", "y:2"],
    "N": 3,
    "ok": True,
    "Empty": [],
    "foreign": "a\x1b[2J\nb",
}

#: Template → what Go prints for it.
SHOWN = {
    "plain text": "plain text",
    "{{.Repository}}:{{.N}}": "alpine:3",
    "{{ .Labels.a }}": "1",
    "{{.Labels}} {{.RepoTags}} {{.ok}} {{.Tag}}": "map[a:1 b:2] [x:1 y:2] true <no value>",
    "{{range .RepoTags}}[{{.}}]{{end}}": "[x:1][y:2]",
    "{{range $i, $t := .RepoTags}}{{$i}}={{$t}} {{end}}": "0=x:1 1=y:2 ",
    "{{range $t := .RepoTags}}{{$t}},{{end}}": "x:1,y:2,",
    "{{range $k,$v := .Labels}}{{$k}}={{$v}}{{println}}{{end}}": "a=1\nb=2\n",
    "{{range .Empty}}x{{else}}none{{end}}{{range .Tag}}x{{end}}": "none",
    "{{range .RepoTags}}{{$.N}}{{end}}": "33",
    "{{if .ok}}y{{else}}n{{end}}{{if .Empty}}y{{end}}": "y",
    "{{if .Tag}}a{{else if eq .N 3}}b{{else}}c{{end}}": "b",
    "{{with .Labels}}{{.b}}{{end}}{{with .Tag}}x{{else}}no{{end}}": "2no",
    "{{if .ok}}{{range .RepoTags}}{{if eq . `x:1`}}1{{end}}{{end}}{{end}}": "1",
    "{{.Repository | upper | printf `%-9s|`}}": "ALPINE   |",
    "{{(index .RepoTags 1) | len}}": "3",
    "{{(index .Labels `a`)}}": "1",
    "a  {{- /* a }} remark */ -}}  b": "ab",
    "a {{- .N -}} b": "a3b",
    '{{"}}"}}': "}}",
    "}} {{`a\\n`}}": "}} a\\n",
    "{{.foreign}}{{print .foreign `\n`}}": "a\\x1b[2J\\x0aba\\x1b[2J\\x0ab\n",
}


@pytest.mark.parametrize(("source", "shown"), SHOWN.items())
def test_it_prints_what_go_prints(source: str, shown: str) -> None:
    assert Template(source).fill(VALUE) == shown


#: Template that cannot be read → what is said.
UNREADABLE = {
    "{{.ID": "unclosed action: {{.ID",
    "a{{`b}}": "unclosed action: {{`b}}",
    "{{foo .}}": "there is no function 'foo'; there are and, eq, index",
    "{{if .ok}}": "{{if .ok}} has no {{end}}",
    "{{range .N}}x": "{{range .N}} has no {{end}}",
    "{{end}}": "{{end}} closes nothing",
    "{{if .ok}}a{{else}}b{{else}}c{{end}}": "{{if .ok}} has a second {{else}}",
    "{{if .ok}}a{{else with .N}}b{{end}}": "{{else with .N}} cannot be read",
    "{{.N .N}}": "'.N' stands where nothing can",
    "{{.N | .N}}": "a function is needed after |",
    "{{|}}": "'|' is no value",
    "{{}}": "a value is missing",
    "{{(.N}}": "a ) is missing",
    "{{.N)}}": "')' stands where nothing can",
    "{{.N + 1}}": "cannot be read from '+ 1' on",
    '{{"\\x"}}': "has an escape that is none",
    "{{range $a, $b, $c := .N}}{{end}}": "$key, $value := is needed",
    "{{range a := .N}}{{end}}": "$key, $value := is needed",
}


@pytest.mark.parametrize(("source", "says"), UNREADABLE.items())
def test_what_cannot_be_read_says_where(source: str, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(source)
    assert says in str(caught.value)


#: Template that cannot be filled from VALUE → what is said.
UNFILLABLE = {
    "{{.Foo}}": "there is no .Foo; there is .Repository, .Tag",
    "{{.N.x}}": ".x: 3 has no fields",
    "{{.Tag.x}}": ".x: nothing has no fields",
    "{{index .RepoTags 9}}": "index: there is no 9 in [x:1 y:2]",
    "{{len .N}}": "len: 3 has no length",
    "{{join .N `,`}}": "join: 3 is no list",
    "{{range .N}}{{end}}": "{{range .N}}: 3 cannot be gone through",
    "{{$x}}": "there is no variable $x",
    "{{upper}}": "upper cannot be used like this",
    "{{truncate .Repository `x`}}": "truncate cannot be used like this",
}


@pytest.mark.parametrize(("source", "says"), UNFILLABLE.items())
def test_what_cannot_be_filled_says_why(source: str, says: str) -> None:
    template = Template(source)
    with pytest.raises(TemplateError) as caught:
        template.fill(VALUE)
    assert says in str(caught.value)


@given(st.text(st.sampled_from('{}.|()$`" -/*abN0\n'), max_size=30))
def test_any_text_is_a_template_or_an_error(source: str) -> None:
    with contextlib.suppress(TemplateError):
        assert isinstance(Template(source).fill(VALUE), str)
