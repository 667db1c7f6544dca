from resnet_space.ui.events import cumulative


def test_each_update_has_all_before_it_and_none_at_all_leaves_the_outputs_as_they_are() -> None:
    given = {"value": [1]}
    assert list(cumulative(iter([{"a": given}, {"b": 2}, {"a": 3}]), "b")) == [
        {"a": {"value": [1]}},
        {"a": {"value": [1]}, "b": 2},
        {"a": 3, "b": 2},
    ]
    (first, *_) = cumulative(iter([{"a": given}]), "a")
    first["a"].clear()  # as Gradio does
    assert given == {"value": [1]}
    assert list(cumulative(iter([{"a": 1}, None]), "a"))[-1] == {"a": {"__type__": "update"}}  # it is outdated
    assert list(cumulative(iter([]), "a")) == [{"a": {"__type__": "update"}}]
