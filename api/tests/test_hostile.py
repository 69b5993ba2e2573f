"""Requests that no usual client sends, byte by byte to the served API.

Valid HTTP gets the response of the contract. Anything else gets the server's own 400, or a closed
connection. The server (uvicorn with httptools) limits an address to 64 KB, but neither the
number nor the size of headers: a header of a megabyte gets a usual response, which is tested here.
"""

import json
import re
from collections.abc import Callable

from conftest import Served
from raw_http import HOST, exchange, http

SERVERS_OWN_400 = b"Invalid HTTP request received."
CLOSED = 0  # the "status" of a connection that is closed without a response
JSON = "Content-Type: application/json"

Case = tuple[bytes, int]  # a request, and its status


def create(user_id: str = "5", name: str = "Mallory", age: str = "66", more: str = "") -> bytes:
    return http("POST", f"/users/?user_id={user_id}&name={name}&age={age}{more}")


def batch(body: str | bytes, content_type: str = JSON) -> bytes:
    sent = body.encode() if isinstance(body, str) else body
    return http(
        "POST", "/users/batch", HOST, content_type, f"Content-Length: {len(sent)}", body=sent
    )


def one(name: str = '"Mallory"', age: str = "66", user_id: str = "5", more: str = "") -> bytes:
    """Return a batch of one user, made of parts of JSON."""
    return batch(f'{{"{user_id}": {{"name": {name}, "age": {age}{more}}}}}')


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return http("POST", "/users/batch", HOST, JSON, "Transfer-Encoding: chunked", body=body)


NOT_NUMBERS = [
    "", "-1", "-0", "+7", "07", "7.0", "7e0", "1_0", "0x7", "%207", "7%20", "7%00", "7%0A", "NaN",
    "Infinity", "true", "null", "[7]", "7,8", "%D9%A3", "%EF%BC%97", "%C2%B2", "9" * 4300,
    "9" * 4301, "18446744073709551616",
]  # fmt: skip
HARMFUL_NAMES = [
    "", "%20", "%E3%80%80%C2%A0", "a%00b", "a%0Ab", "a%0D%0AINFO%20GET%20/forged%20200", "%1B[31m",
    "a%7Fb", "a%C2%85b", "a%E2%80%AEb", "a%E2%81%A6b", "%FF", "%C0%AF", "%C3", "%ED%A0%80",
    "%F4%90%80%80", "x" * 101, "x%20" * 60, "x" * 60_000,
]  # fmt: skip
# They look hostile, but are valid names, and are stored as they are sent.
STRANGE_NAMES = {
    "1": ("%27;DROP%20TABLE%20users;--", "';DROP TABLE users;--"),
    "2": ("%3Cscript%3Ealert(1)%3C/script%3E", "<script>alert(1)</script>"),
    "3": ("=HYPERLINK(%22http://evil%22)", '=HYPERLINK("http://evil")'),
    "4": ("%F0%9D%94%98" * 100, "𝔘" * 100),
    "6": ("%25s%7B0%7D%24%7Bx%7D", "%s{0}${x}"),
    "7": ("a%E2%80%8Db", "a\u200db"),
    "8": ("%EF%BF%BF", "\uffff"),
    "9": ("A%", "A%"),
    "9007199254740991": ("..%2F..%2Fetc", "../../etc"),
}

PARAMETERS: dict[str, Case] = {
    **{f"id {text[:30]}{len(text)}": (create(user_id=text), 422) for text in NOT_NUMBERS},
    **{f"age {text[:30]}{len(text)}": (create(age=text), 422) for text in NOT_NUMBERS},
    **{f"name {text[:30]}{len(text)}": (create(name=text), 422) for text in HARMFUL_NAMES},
    **{f"strange name {i}": (create(i, name), 201) for i, (name, _) in STRANGE_NAMES.items()},
    "id 2**53": (create("9007199254740992"), 422),
    "id 0, age 0": (create("0", age="0"), 201),
    "age 150": (create("10", age="150"), 201),
    "age 151": (create(age="151"), 422),
    "taken": (create("0"), 409),
    "name as raw UTF-8": (http("POST", "/users/?user_id=5&age=6&name=é".encode()), 400),
    "twice": (create(more="&age=66"), 422),
    "twice, spelt differently": (create(more="&%61ge=67"), 422),
    "unknown": (create(more="&admin=true"), 422),
    "unknown and empty": (create("13", more="&"), 201),
    "unknown in brackets": (create(more="&age[]=1"), 422),
    "semicolons": (http("POST", "/users/?user_id=5;name=Mallory;age=66"), 422),
    "no parameter": (http("POST", "/users/"), 422),
    "1,000 parameters": (create(more="&age=1" * 1000), 422),
    "in a form": (
        http("POST", "/users/", HOST, "Content-Type: application/x-www-form-urlencoded",
             "Content-Length: 27", body=b"user_id=5&name=Mallory&age=6"[:27]), 422,
    ),
}  # fmt: skip

ADDRESSES: dict[str, Case] = {
    **{
        f"{method} {key[:20]}": (http(method, f"/users/{key}"), 422)
        for method in ("GET", "DELETE")
        for key in ("-1", "01", "1.0", "%2B1", "1_0", "x", "%00", "%FF", "%0A7", "9" * 5000)
    },
    "the list, and a line feed": (http("GET", "/users%0A"), 404),
    "a create, and a line feed": (http("POST", "/users/%0A?user_id=5&name=Mallory&age=66"), 404),
    "a batch, and a line feed": (
        http("POST", "/users/batch%0A", HOST, JSON, "Content-Length: 2", body=b"{}"),
        404,
    ),
    **{
        f"{address}, and a line feed": (http("GET", f"{address}%0A"), 404)
        for address in ("/health", "/metrics", "/docs", "/openapi.json", "/stats/ages", "/users/7")
    },
    "a path inside": (http("GET", "/users/1/2"), 404),
    "a slash, encoded": (http("GET", "/users/..%2F..%2Fmain.py"), 404),
    "out of static": (http("GET", "/static/../main.py"), 404),
    "out of static, encoded": (http("GET", "/static/%2e%2e/main.py"), 404),
    "double slash": (http("GET", "//users/"), 404),
    "70 KB": (http("GET", "/" + "x" * 70_000), 400),
    "an unknown query": (http("GET", "/health?x=1"), 422),
    "PATCH": (http("PATCH", "/users/1"), 405),
    "TRACE": (http("TRACE", "/users/1"), 405),
    "OPTIONS *": (http("OPTIONS", "/users/"), 405),
    "no method": (http("", "/users/"), 400),
    "an invented method": (http("BREW", "/users/"), 400),
    "a method in small letters": (http("post", "/users/"), 400),
    **{f"{verb} batch": (http(verb, "/users/batch"), 405) for verb in ("GET", "PUT", "DELETE")},
}

BODIES: dict[str, Case] = {
    **{
        f"age {text[:20]}": (one(age=text), 422)
        for text in ("30.5", '"30"', "true", "null", "-1", "151", "151.0", "NaN", "Infinity", "1e3",
                     "-1e0", "1e400", "9" * 400, "[]", "{}")
    },
    # JSON Schema calls these integers (2020-12, 6.1.1).
    **{f"age {text}": (one(user_id="13", age=text), 200) for text in ("66.0", "6.6e1", "-0.0")},
    **{
        f"key {key[:20]}": (one(user_id=key), 422)
        for key in ("", "-1", "+1", "01", "1.0", " 1", "x", "٣", "9007199254740992", "9" * 5000)
    },
    **{
        f"name {text[:20]}": (one(name=text), 422)
        for text in ('""', '" "', '"\\ud800"', '"\\udc00\\ud800"', '"a\\u0000"', '"a\\n"',
                     '"\\u202e"', '"\\u200b"', '"\\u3164 \\ufeff"', '"a\\u200eb"', '"a\\u2028b"',
                     "null", "5", '["a"]', '"' + "x" * 101 + '"')
    },
    "an extra field": (one(more=', "admin": true'), 422),
    "a missing field": (batch('{"5": {"name": "Mallory"}}'), 422),
    "an array": (batch('[{"user_id": 5}]'), 422),
    "a number": (batch("5"), 422),
    "null": (batch("null"), 422),
    "empty": (batch(""), 422),
    "not JSON": (batch('{"5": '), 422),
    "two values": (batch("{} {}"), 422),
    "an age of 5,000 digits": (one(age="9" * 5000), 422),
    "not UTF-8": (batch(b'{"5": {"name": "\xff", "age": 66}}'), 422),
    "deep arrays": (batch("[" * 100_000), 422),
    "deep objects": (batch('{"5":' * 100_000), 422),
    "one of two is wrong": (
        batch('{"5": {"name": "Mallory", "age": 66}, "6": {"name": "", "age": 66}}'), 422,
    ),
    "10,001 users": (
        batch(json.dumps({n: {"name": "Mallory", "age": 66} for n in range(20_000, 30_001)})), 413,
    ),
    "over 8 MiB": (batch(b" " * (8 * 1024 * 1024 + 1)), 413),
    "over 8 MiB in chunks": (chunked(*[b" " * 65_536] * 129), 413),
    "compressed": (batch("{}", "Content-Type: application/json\r\nContent-Encoding: gzip"), 415),
    "as text": (batch('{"5": {"name": "Mallory", "age": 66}}', "Content-Type: text/plain"), 415),
    "of no type": (batch('{"5": {"name": "Mallory", "age": 66}}', "X-No: type"), 415),
    "as a form": (batch("5=6", "Content-Type: application/x-www-form-urlencoded"), 415),
    "parameters beside": (http("POST", "/users/batch?user_id=5", HOST, JSON,
                               "Content-Length: 2", body=b"{}"), 422),
    "an empty batch": (batch("{}"), 200),
    # RFC 8259 leaves to the reader what two equal keys mean; here, as nearly everywhere, the last.
    "a key twice": (
        batch('{"11": {"name": "Mallory", "age": 1}, "11": {"name": "Mallory", "age": 2}}'), 200,
    ),
    "in chunks": (chunked(b'{"12": {"name": "Mal', b'lory", "age": 66}}'), 200),
}  # fmt: skip

WRITE = "/users/?user_id=5&name=Mallory&age=66"
HEADERS: dict[str, Case] = {
    **{
        f"Host {host[:30]}": (http("POST", WRITE, f"Host: {host}"), 400)
        for host in ("", "evil.example", "localhost.evil.example", "localhost@evil.example",
                     "evil.example:8000", "localhost:80:80", "127.0.0.1.", "2130706433", "h" * 9000)
    },
    "no Host": (http("POST", WRITE, "X-No: host"), 400),
    "two Hosts": (http("POST", WRITE, HOST, HOST), 400),
    **{
        f"Origin {origin[:30]}": (http("POST", WRITE, HOST, f"Origin: {origin}"), 403)
        for origin in ("https://evil.example", "null", "http://localhost:81", "localhost", "",
                       "http://localhost.evil.example", "http://localhost@evil.example")
    },
    "two Origins": (http("POST", WRITE, HOST, "Origin: http://localhost", "Origin: null"), 403),
    "a forged log line": (
        http("GET", "/users/5", HOST, "X-Request-ID: x INFO GET /forged 200"), 404,
    ),
    "10,000 headers": (http("GET", "/users/5", HOST, *["X-A: b"] * 10_000), 404),
    "a header of 1 MB": (http("GET", "/users/5", HOST, "X-A: " + "b" * 1_000_000), 404),
    "a proxy header": (http("POST", WRITE, "Host: evil", "X-Forwarded-Host: localhost"), 400),
    "another method": (http("GET", "/users/5", HOST, "X-HTTP-Method-Override: PUT"), 404),
}  # fmt: skip

CHUNKED = "Transfer-Encoding: chunked"
PROTOCOL: dict[str, Case] = {
    "garbage": (b"\x00\x01\x02\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "length and chunks": (
        http("POST", "/users/batch", HOST, JSON, "Content-Length: 2", CHUNKED, body=b"{}"), 400,
    ),
    "two lengths": (
        http("POST", "/users/batch", HOST, "Content-Length: 2", "Content-Length: 3", body=b"{}"),
        400,
    ),
    "a negative length": (http("POST", "/users/batch", HOST, "Content-Length: -1"), 400),
    "a length in words": (http("POST", "/users/batch", HOST, "Content-Length: two"), 400),
    "a chunk of no size": (http("POST", "/users/batch", HOST, JSON, CHUNKED, body=b"z\r\n"), 400),
    "NUL in a header": (http("GET", "/users/5", HOST, b"X-A: \x00"), 400),
    "a folded header": (http("GET", "/users/5", HOST, "X-A: a", " b"), 400),
    "space before the colon": (http("GET", "/users/5", "Host : localhost"), 400),
    "bare line feeds": (http("GET", "/users/5").replace(b"\r\n", b"\n"), 400),
    "a space in the address": (http("GET", "/users/5 /users/6"), 400),
    "HTTP/9.9": (b"GET /users/5 HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
    "a truncated body": (
        http("POST", "/users/batch", HOST, JSON, "Content-Length: 99", body=b'{"5": {'), CLOSED,
    ),
    "a truncated header": (b"GET /users/5 HTTP/1.1\r\nHost: loc", CLOSED),
    "nothing at all": (b"", CLOSED),
}  # fmt: skip

LOG_LINES = re.compile(
    r"INFO: .*(Started|Waiting|startup|running on).*"  # uvicorn's own, at the start
    r"|WARNING: +Invalid HTTP request received\."
    r"|\S+ \S+ INFO User Management API .*"
    r"|\S+ \S+ INFO [A-Z]+ (unmatched|/[a-z]*(/(\{user_id\}|ages|batch)?)?) \d{3} [\d.]+ ms \w+"
)


def mistake(response: bytes, status: int) -> str | None:
    """Return what is wrong with a response, or None."""
    if status == CLOSED or not response:
        return None if status == CLOSED and not response else f"the response is {response[:200]!r}"
    head, _, body = response.partition(b"\r\n\r\n")
    if int(head.split()[1]) != status:
        return f"the response is {response[-300:]!r}"
    if status == 400 and body == SERVERS_OWN_400:
        return None
    if b"\r\ncontent-type: application/json" not in head.lower():
        return f"it is not JSON: {response[-300:]!r}"
    if status >= 400 and next(iter(json.loads(body))) != "detail":
        return f"it has no detail: {body[:200]!r}"
    return "it repeats too much of the request" if len(body) > 2_000 else None


def mistakes(served: Served, cases: dict[str, Case]) -> list[str]:
    """Send all requests; return a text for each response that is wrong."""
    found = []
    for what, (request, status) in cases.items():
        response = exchange(served.port, request, end_input=status == CLOSED)
        if wrong := mistake(response, status):
            found.append(f"{what}: expected {status}, but {wrong}")
    return found


def test_hostile_requests(serve: Callable[..., Served]) -> None:
    """Each gets the response of the contract, stores only valid users, and leaves one log line."""
    served = serve()
    groups = (PARAMETERS, ADDRESSES, BODIES, HEADERS, PROTOCOL)
    found = [text for group in groups for text in mistakes(served, group)]
    with served.client() as client:
        listing = client.get("/users/").json()
    log = served.log.read_text("utf-8")
    print(f"{sum(map(len, groups))} requests")

    assert not found, "\n".join(found)
    assert listing == {
        **{i: {"name": name, "age": 66} for i, (_, name) in STRANGE_NAMES.items()},
        "0": {"name": "Mallory", "age": 0},
        "10": {"name": "Mallory", "age": 150},
        "11": {"name": "Mallory", "age": 2},
        "12": {"name": "Mallory", "age": 66},
        "13": {"name": "Mallory", "age": 66},
    }
    assert [line for line in log.splitlines() if not LOG_LINES.fullmatch(line)] == []
