import base64

import pytest
from jinja2 import UndefinedError

from vipa.io.pages import data_url, render_page

EVIL = '<script>hit = 1</script>"><img src=x onerror="hit = 1">'


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "some.html"
    path.write_text(
        '{% extends "base.html" %}{% from "parts.html" import media %}{% block title %}{{ said }}{% endblock %}'
        "{% block main %}<p>{{ said }}</p>{{ media(file, said) }}{% endblock %}"
    )
    return path


def test_text_is_escaped_wherever_it_stands(template, tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    page = render_page(template, said=EVIL, file=tmp_path / "a.png")
    assert page.count("<script") == 0
    assert page.count("<img") == 1
    assert page.count("&lt;script&gt;hit") == 3
    assert '<img src="data:image/png;base64,' in page


def test_a_missing_picture_is_said_and_a_missing_value_is_an_error(template, tmp_path):
    assert "a.png is missing" in render_page(template, said="", file=tmp_path / "a.png")
    with pytest.raises(UndefinedError, match="said"):
        render_page(template, file=tmp_path / "a.png")


def test_an_address_holds_the_file(tmp_path):
    path = tmp_path / "a.JPG"
    path.write_bytes(bytes(range(256)))
    kind, _, content = data_url(path).partition(";base64,")
    assert (kind, base64.b64decode(content)) == ("data:image/jpeg", bytes(range(256)))
    assert data_url(bytes(range(256)), ".jpg") == data_url(path)
