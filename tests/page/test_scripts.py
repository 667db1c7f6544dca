import re

from plotly.offline import get_plotlyjs_version

from resnet_space.ui.scripts import PLOTLY


def test_the_pages_plotly_has_the_version_of_the_python_package_that_makes_its_charts() -> None:
    head = PLOTLY.read_text(encoding="utf-8")[:200]
    assert re.findall(r"plotly\.js \(cartesian - minified\) v([\d.]+)", head) == [get_plotlyjs_version()]
