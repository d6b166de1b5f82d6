"""YAML whose mappings say everything once."""

from __future__ import annotations

import re
from typing import Any

import yaml

from vision.faults import quote

_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own loader takes the last of two equal keys in silence, and fails in many ways at a word that is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError) as error:
            problem = f"{quote(node.value)}, which is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error
        if isinstance(value, str) and _UNSPEAKABLE.search(value):
            problem = f"{quote(value)}, with a character that no name or path can hold"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return value


def _construct_unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    written = [key_node for key_node, _ in node.value]
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = {}
    written_keys: set[Any] = set()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | type(None)):
            raise yaml.MarkedYAMLError(problem="a key that is not a plain word", problem_mark=key_node.start_mark)
        # What is written beside a merged mapping (<<) takes the place of what the merge brought.
        if key_node in written and key in written_keys:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
        if key_node in written:
            written_keys.add(key)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_unique_mapping)
