"""The OpenAPI schema against the server: schemathesis makes up requests, fitting and unfitting."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from textassay.serving.app import build_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
LIMITS = {"text_chars": 500, "items": 5, "seconds": 5}
ENDPOINTS = ("/predict", "/sentiment-analyze", "/models/{name}/predict", "/info", "/ready")


@pytest.mark.slow
def test_nothing_that_is_made_up_breaks_it(local) -> None:
    """No 5xx, and no status or body that the schema does not announce."""
    app = build_app(local(limits=LIMITS).service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen = Counter(dict.fromkeys(ENDPOINTS, 0))
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case) -> None:
                response = case.call()
                seen[case.operation.path] += 1
                statuses[response.status_code] += 1
                case.validate_response(response, checks=CHECKS)

            # A GET without parameters has nothing that could be unfitting.
            if operation.method == "post" or mode == schemathesis.GenerationMode.POSITIVE:
                check()
    assert all(seen[endpoint] > 0 for endpoint in ENDPOINTS), seen
    assert statuses[200] > 20 and statuses[422] > 50, statuses
