"""The system page: what is said of the three services, and by how many requests."""

from conftest import Api, Clock, badge, data, headed, silence, texts, turn_to, until
from streamlit.testing.v1 import AppTest


def healthy(api: Api) -> None:
    """Respond as an API does that is alive and ready."""
    api.counts({30: 1})
    api.responders["/health"] = headed(b'{"status": "healthy"}', 200, {"X-Replica": "api-1"})
    api.responders["/ready"] = data({"status": "ready", "store": "sqlite", "durable": True})


def system(page: AppTest) -> AppTest:
    return turn_to(page.run(), "system")


def badges(page: AppTest) -> str:
    return " ".join(str(each.value) for each in page.markdown)


def test_all_is_well(api: Api, page: AppTest) -> None:
    """Alive, ready, store, durable and replica are those of the API's responses."""
    healthy(api)
    system(page)
    assert not page.exception
    assert [each.value for each in page.header] == [
        "Simulator",
        "User Management API",
        "Dashboard",
    ]
    until(lambda: "Alive and ready" in badges(page.run()))
    assert {
        "Store: sqlite",
        "Users survive a restart",
        "Replica: api-1",
    } <= set(texts(page))
    (latency,) = [each for each in page.metric if each.label == "Latency of /health"]
    assert latency.value.endswith(" ms")
    assert not page.error
    assert "Live, updated" in badge(page)
    assert not any("broken" in text for text in texts(page))


def test_alive_and_not_ready(api: Api, page: AppTest) -> None:
    """An API that is alive but not ready is not shown as down."""
    healthy(api)
    api.responders["/ready"] = data({"detail": "The process is stopping"}, status=503)
    system(page)
    until(lambda: "Alive, not ready" in badges(page.run()))
    assert "The API's message: The process is stopping" in texts(page)
    assert "Live" not in badge(page)


def test_a_restart_is_no_deletion(api: Api, page: AppTest) -> None:
    """Users that a store in memory lost at its restart are not in the net change."""
    healthy(api)
    api.counts({30: 1000})
    system(page)
    assert ":material/help: Unknown" in badges(page)
    until(lambda: "No growth seen" in badges(page.run()))
    api.counts({30: 2})
    asked = len(api.paths)
    until(lambda: not page.run().exception and len(api.paths) > asked + 4)
    assert "No growth seen" in badges(page)
    api.counts({30: 5})
    until(lambda: "Users arrive" in badges(page.run()))
    (rate,) = [each for each in page.metric if each.label == "Net change per minute"]
    assert float(rate.value) > 0


def test_what_is_old_is_not_shown_as_of_now(api: Api, page: AppTest, clock: Clock) -> None:
    """After hours without a viewer, only the dashboard itself is green while the API hangs."""
    healthy(api)
    system(page)
    api.counts({30: 5})
    until(lambda: "Users arrive" in badges(page.run()) and "Alive and ready" in badges(page))
    api.responders["/health"] = api.responders["/ready"] = api.responders["/stats/ages"] = silence
    clock.pass_by(7_200)
    page.run()
    assert "Stale, last response 2 h ago" in badge(page)
    assert badges(page).count(":green-badge") == 1
    assert ":gray-badge[:material/help: Unknown]" in badges(page)
    assert [each.value for each in page.metric][:2] == ["\N{EN DASH}", "\N{EN DASH}"]


def test_down(api: Api, page: AppTest) -> None:
    """When the API is down the picture stays, says so once, and nothing of old is shown as new."""
    healthy(api)
    system(page)
    api.stop()
    until(lambda: badges(page.run()).count("API down") >= 2)
    assert "Replica: unknown" in texts(page)
    assert len([text for text in texts(page) if "broken" in text]) == 2
    assert len(page.error) == 1
    assert ":gray-badge[:material/help: Unknown]" in badges(page)
    assert [each.value for each in page.metric][:2] == ["\N{EN DASH}", "\N{EN DASH}"]


def test_an_api_with_less(api: Api, page: AppTest) -> None:
    """What an API does not say is unknown, not a mistake."""
    healthy(api)
    api.responders["/health"] = data({})
    api.responders["/ready"] = data({})
    system(page)
    until(lambda: "Alive and ready" in badges(page.run()))
    assert {
        "Store: unknown",
        "Durable: unknown",
        "Replica: unknown",
    } <= set(texts(page))
