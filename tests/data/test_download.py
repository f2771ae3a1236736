"""Download of a named text over https, from a local server with a generated certificate."""

import gzip
import hashlib
import socketserver
import ssl
import threading
import urllib.request
from contextlib import suppress

import pytest
import trustme

from charlm.data import named_texts
from charlm.data.named_texts import NamedText
from charlm.data.user_texts import add_text, user_folder
from charlm.errors import DataError, InputNotFoundError

BOOK = b"a book that is not long, but is the right one\n" * 4
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


class Canned(socketserver.StreamRequestHandler):
    """Answer every request with prepared bytes."""

    def handle(self):
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(path)
        with suppress(ConnectionError):  # the client closes the connection when it has read too much
            self.wfile.write(self.server.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), Canned)
        scheme = "http" if context is None else "https"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{scheme}://localhost:{self.server_address[1]}"
        self.answers, self.asked = {}, []

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()
        return super().__enter__()

    def __exit__(self, *error):
        self.shutdown()
        self.thread.join()
        super().__exit__(*error)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return a certificate authority and the file with its certificate."""
    made = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return made, file


@pytest.fixture
def https(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("localhost").configure_cert(context)
    with Server(context) as server:
        yield server


@pytest.fixture
def http():
    with Server() as server:
        yield server


@pytest.fixture
def cache(tmp_path, monkeypatch, authority):
    """Return an empty cache folder; trust the authority and use no proxy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHARLM_CORPORA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    urllib.request.install_opener(None)  # it may hold older certificates
    yield tmp_path / "cache" / "charlm"
    urllib.request.install_opener(None)


@pytest.fixture
def offer(https):
    """Return a function that sets the server's answer and returns a function that reads the text."""

    def answer_with(answer, url=https.url):
        https.answers["/book.txt"] = answer
        sha256 = hashlib.sha256(BOOK).hexdigest()
        text = NamedText("a book", f"{url}/book.txt", "CC0", "book.txt", len(BOOK), sha256)
        return lambda: b"".join(named_texts.open_texts(["book"], {"book": text}))

    return answer_with


def test_a_text_is_downloaded_once_and_saved_under_its_name(cache, offer, https):
    read = offer(OK + b"Content-Length: %d\r\n\r\n" % len(BOOK) + BOOK)
    assert read() == BOOK
    assert [(file.name, file.read_bytes()) for file in cache.iterdir()] == [("book.txt", BOOK)]
    assert read() == BOOK
    assert https.asked == ["/book.txt"]


def test_a_file_in_corpora_is_used_without_a_download(cache, offer, https, tmp_path):
    read = offer(OK + b"\r\n" + BOOK)
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "book.txt").write_bytes(BOOK)
    assert read() == BOOK
    assert https.asked == []


@pytest.mark.parametrize(
    ("body", "what"),
    [(BOOK + b"x", "longer than"), (BOOK * 100_000, "longer than"), (BOOK.upper(), "SHA-256"), (BOOK[:-1], "SHA-256")],
    ids=["longer", "far longer", "another", "cut off"],
)
def test_another_content_is_refused_and_not_saved(body, what, cache, offer):
    read = offer(OK + b"\r\n" + body)
    with pytest.raises(DataError, match=what):
        read()
    assert not cache.exists() or list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"",
        b"this is no HTTP\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\ncut off",
    ],
    ids=["not there", "nothing", "no HTTP", "cut off in a chunk"],
)
def test_a_failed_download_is_an_input_not_found_error(answer, cache, offer, https):
    read = offer(answer)
    with pytest.raises(InputNotFoundError, match=f"{https.url}/book.txt cannot be downloaded"):
        read()
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_redirect_to_http_is_refused(cache, offer, http):
    http.answers["/book.txt"] = OK + b"\r\n" + BOOK
    read = offer(b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: " + f"{http.url}/book.txt\r\n\r\n".encode())
    with pytest.raises(InputNotFoundError, match="not https"):
        read()
    assert not cache.exists()
    assert http.asked == []


def test_a_redirect_over_http_back_to_https_is_refused_before_the_http_request(cache, offer, http, https):
    https.answers["/final"] = OK + b"\r\n" + BOOK
    moved = "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {}\r\n\r\n"
    http.answers["/hop"] = moved.format(f"{https.url}/final").encode()
    https.answers["/first"] = moved.format(f"{http.url}/hop").encode()
    read = offer(moved.format("/first").encode())
    with pytest.raises(InputNotFoundError, match=f"{http.url}/hop is not https"):
        read()
    assert http.asked == []
    assert https.asked == ["/book.txt", "/first"]


def test_a_redirect_to_https_is_followed(cache, offer, https):
    https.answers["/elsewhere"] = OK + b"\r\n" + BOOK
    read = offer(b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /elsewhere\r\n\r\n")
    assert read() == BOOK
    assert (cache / "book.txt").read_bytes() == BOOK


def test_an_untrusted_certificate_is_refused(cache, offer, tmp_path, monkeypatch):
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger))
    read = offer(OK + b"\r\n" + BOOK)
    with pytest.raises(InputNotFoundError, match="(?i)certificate"):
        read()


def test_a_registered_http_url_is_refused(cache, offer, http):
    http.answers["/book.txt"] = OK + b"\r\n" + BOOK
    read = offer(b"", url=http.url)
    with pytest.raises(InputNotFoundError, match="not https"):
        read()
    assert http.asked == []


@pytest.fixture
def add(https, cache, monkeypatch, tmp_path):
    """Return a function that adds a text from the server, given its answer, in an empty folder of the user."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def add_with(answer, **options):
        https.answers["/book"] = answer
        return add_text("my-book", [f"{https.url}/book"], user_folder(), **options)

    return add_with


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["as it is", "gzip"])
def test_a_text_is_added_from_a_url_and_its_sha256_pinned(add, pack, https):
    text = add(OK + b"\r\n" + pack(BOOK))
    assert (text.source, text.sha256) == (f"{https.url}/book", hashlib.sha256(BOOK).hexdigest())
    assert b"".join(named_texts.open_texts(["my-book"])) == BOOK
    with pytest.raises(DataError, match="is not that of my-book"):
        add(OK + b"\r\n" + BOOK.upper())
    assert b"".join(named_texts.open_texts(["my-book"])) == BOOK
    assert sorted(path.name for path in user_folder().iterdir()) == ["my-book.json", "my-book.txt"]


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_an_added_text_is_not_redirected_to_another_scheme(add, http, scheme):
    url = http.url.replace("http", scheme, 1)
    with pytest.raises(InputNotFoundError, match=f"{scheme}://.* is not (https|allowed)"):
        add(b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: " + f"{url}/book\r\n\r\n".encode())
    assert list(user_folder().iterdir()) == []
    assert http.asked == []


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (OK + b"\r\n" + BOOK, DataError, "longer than the expected"),
        (OK + b"\r\n", DataError, "is empty"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            InputNotFoundError,
            "cannot be downloaded .*give a file",
        ),
        (OK + b"Content-Length: 999\r\n\r\ncut", InputNotFoundError, "996 bytes are missing at the end"),
    ],
    ids=["too long", "empty", "not there", "cut off"],
)
def test_a_text_that_cannot_be_added_leaves_nothing(add, answer, error, message):
    with pytest.raises(error, match=message):
        add(answer, max_bytes=len(BOOK) - 1)
    assert list(user_folder().iterdir()) == []
