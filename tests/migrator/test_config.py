"""Settings: where they come from, and the one line when one is wrong."""

import ssl
from pathlib import Path
from typing import Any

import click
import pytest

from migrator import config
from migrator.config import Address, Settings
from proxy.tls import TlsFiles
from tests.tls import Authority

URLS = ["--source", "redis://127.0.0.1:1", "--target", "valkey://127.0.0.1:2"]
TLS_SETTINGS = [str(o.name).replace("_", "-") for o in config.OPTIONS if "tls" in str(o.name)]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for option in config.OPTIONS:
        monkeypatch.delenv(str(option.envvar), raising=False)
    monkeypatch.chdir(tmp_path)


def settings(*argv: str) -> Settings:
    """What `keyferry run` would start with. Raises click.UsageError."""
    made: list[Settings] = []

    @click.command(params=list(config.OPTIONS))
    def run(**values: Any) -> None:
        made.append(config.checked(values))

    run.main(list(argv), standalone_mode=False)
    return made[0]


def complaint(*argv: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        settings(*argv)
    line = config.complaint(caught.value)
    assert "\n" not in line
    return line


def test_defaults_are_the_contracts() -> None:
    s = settings(*URLS)
    assert s.listen == Address("127.0.0.1", 6380)
    assert s.admin == Address("127.0.0.1", 9400)
    assert s.state == Path("keyferry-state")
    assert s.admin_token is None
    assert s.mirror_buffer_bytes == 64 << 20
    assert s.unproven_limit == 1_000_000
    assert s.max_lag_ms == 1000
    assert s.source.address == "127.0.0.1:1"


def test_flag_before_variable_before_file_before_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "keyferry.toml"
    path.write_text('listen = "0.0.0.0:1"\nmax_clients = 1\nmax-lag = "1s"\nstate = "of-file"\n')
    monkeypatch.setenv("KEYFERRY_LISTEN", "0.0.0.0:2")
    monkeypatch.setenv("KEYFERRY_MAX_CLIENTS", "2")
    s = settings(*URLS, "--config", str(path), "--listen", "0.0.0.0:3")
    assert s.listen.port == 3
    assert s.max_clients == 2
    assert s.state == Path("of-file")
    assert s.max_lag_ms == 1000
    assert s.admin.port == 9400


def test_all_of_it_can_come_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keyferry.toml"
    path.write_text('source = "redis://a"\ntarget = "valkeys://u:p@b:7/3"\nadmin_token = "x"\n')
    monkeypatch.setenv("KEYFERRY_CONFIG", str(path))
    s = settings()
    assert (s.source.address, s.target.address) == ("a:6379", "b:7")
    assert (s.target.user, s.target.password, s.target.is_tls) == ("u", "p", True)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--target", "redis://b"], "--source: it is required (or KEYFERRY_SOURCE)"),
        ([*URLS, "--source", "http://a"], "--source: must start with one of redis://"),
        ([*URLS, "--listen", "6380"], "--listen: '6380' is not HOST:PORT"),
        ([*URLS, "--listen", "a:99999"], "--listen: 99999 is not a port"),
        ([*URLS, "--max-clients", "0"], "--max-clients: 0 is not in the range x>=1."),
        ([*URLS, "--max-clients", "many"], "--max-clients: 'many' is not a valid integer"),
        ([*URLS, "--max-lag", "soon"], "--max-lag: 'soon' is not a duration"),
        ([*URLS, "--mirror-buffer-bytes", "-1"], "--mirror-buffer-bytes: '-1' is not a size"),
        ([*URLS, "--log-level", "loud"], "--log-level: 'loud' is not one of"),
        ([*URLS, "--target", "redis://127.0.0.1:1"], "--target: it is the source"),
        ([*URLS, "--admin", "0.0.0.0:9400"], "--admin: 0.0.0.0:9400 is not loopback, and needs"),
        ([*URLS, "--admin", "h:1", "--admin-token", "a b"], "--admin-token: it must be of"),
        ([*URLS, "--admin", "h:1", "--admin-token", ""], "--admin-token: it must be of"),
        ([*URLS, "--admin", "127.0.0.1:6380"], "--admin: 127.0.0.1:6380 is where applications"),
        ([*URLS, "--allow-commands", "get"], "--allow-commands: 'get' is not refused"),
        ([*URLS, "--allow-commands", "save,sav"], "--allow-commands: there is no command 'sav'"),
        ([*URLS, "--allow-commands", "sync"], "--allow-commands: 'sync' can never be allowed: it"),
        ([*URLS, "--nonsense"], "No such option"),
        ([*URLS, "--config", "nowhere.toml"], "--config: nowhere.toml: No such file"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_the_setting(argv: list[str], line: str) -> None:
    assert complaint(*argv).startswith(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('sorce = "redis://a"', "there is no setting 'sorce'; is it source?"),
        ("config = 1", "there is no setting 'config'"),
        ("listen = [1]", "listen must be a text or a number"),
        ("max_clients = true", "max_clients must be a text or a number"),
        ("listen = ", "is not TOML"),
        ('[run]\nlisten = "a:1"', "there is no setting 'run'"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "its.toml"
    path.write_text(text)
    said = complaint(*URLS, "--config", str(path))
    assert said.startswith(f"--config: {path}")
    assert line in said


def test_the_line_says_where_the_value_is_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "its.toml"
    path.write_text('listen = "x"')
    said = complaint(*URLS, "--config", str(path))
    assert said.startswith("listen in the file of --config (--listen): 'x'")
    monkeypatch.setenv("KEYFERRY_LISTEN", "y")
    assert complaint(*URLS).startswith("KEYFERRY_LISTEN (--listen): 'y'")


def test_names_of_commands_are_a_list_in_the_file_and_have_commas_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings(*URLS).allow_commands == ()
    wanted = ("save", "config set")
    assert settings(*URLS, "--allow-commands", "save, config set,").allow_commands == wanted
    path = tmp_path / "its.toml"
    for text in ('["save", "config set"]', '"save,config set"'):
        path.write_text(f"allow-commands = {text}")
        assert settings(*URLS, "--config", str(path)).allow_commands == wanted
    path.write_text("allow_commands = [1]")
    said = complaint(*URLS, "--config", str(path))
    assert said.startswith("allow_commands in the file of --config (--allow-commands): there is no")
    monkeypatch.setenv("KEYFERRY_ALLOW_COMMANDS", "SAVE")
    assert settings(*URLS).allow_commands == ("SAVE",)


@pytest.mark.parametrize("flag", ["--source", "--target"])
def test_no_line_shows_a_password(flag: str) -> None:
    assert "hush" not in complaint(*URLS, flag, "redis://u:hush@h:nonsense")


def test_a_password_is_not_shown_by_the_settings_either() -> None:
    argv = ["--source", "redis://u:hush@a", "--target", "redis://b", "--admin-token", "psst"]
    assert "hush" not in repr(settings(*argv))
    assert "psst" not in repr(settings(*argv))


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0), True),
        ("localhost:1", Address("localhost", 1), True),
        ("[::1]:5", Address("::1", 5), True),
        ("http://127.8.8.8:9400/", Address("127.8.8.8", 9400), True),
        ("0.0.0.0:1", Address("0.0.0.0", 1), False),
        ("[::]:1", Address("::", 1), False),
        ("example.org:1", Address("example.org", 1), False),
    ],
)
def test_addresses(text: str, address: Address, is_loopback: bool) -> None:
    s = settings(*URLS, "--listen", text)
    assert s.listen == address
    assert s.listen.is_loopback is is_loopback


def test_an_address_reads_back_as_itself() -> None:
    for text in ("127.0.0.1:1", "[::1]:5"):
        assert str(settings(*URLS, "--listen", text).listen) == text


def test_an_admin_address_for_others_is_fine_with_a_token() -> None:
    assert settings(*URLS, "--admin", "0.0.0.0:9400", "--admin-token", "x").admin_token == "x"


TLS_URLS = ["--source", "rediss://127.0.0.1:1", "--target", "valkeys://127.0.0.1:2"]


def tls_words(authority: Authority) -> dict[str, str]:
    """Every TLS setting, with files that there are."""
    (cert, key), (ours, our_key) = authority.server, authority.client
    words = {"tls-cert": cert, "tls-key": key, "tls-client-ca": authority.ca}
    for side in ("source", "target"):
        words |= {f"{side}-tls-ca": authority.ca, f"{side}-tls-cert": ours}
        words |= {f"{side}-tls-key": our_key, f"{side}-tls-name": f"{side}.example"}
    return {name: str(value) for name, value in words.items()}


def flags(words: dict[str, str]) -> list[str]:
    return [word for name, value in words.items() for word in (f"--{name}", value)]


def test_without_tls_settings_clients_are_served_plain() -> None:
    s = settings(*URLS)
    assert s.tls is None
    assert not s.source.is_tls


@pytest.mark.parametrize("origin", ["flags", "variables", "file"])
def test_tls_settings_come_from_everywhere(
    authority: Authority, origin: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = tls_words(authority)
    more: list[str] = []
    if origin == "flags":
        more = flags(words)
    elif origin == "variables":
        for name, value in words.items():
            monkeypatch.setenv("KEYFERRY_" + name.upper().replace("-", "_"), value)
    else:
        path = tmp_path / "its.toml"
        path.write_text("".join(f'{name} = "{value}"\n' for name, value in words.items()))
        more = ["--config", str(path)]
    s = settings(*TLS_URLS, *more)
    assert s.tls is not None
    assert s.tls.context().verify_mode is ssl.CERT_REQUIRED
    for side, endpoint in (("source", s.source), ("target", s.target)):
        certificate, key = authority.client
        assert endpoint.tls == TlsFiles(certificate, key, authority.ca)
        assert endpoint.tls_name == f"{side}.example"


@pytest.mark.parametrize("setting", [n for n in TLS_SETTINGS if not n.endswith("-name")])
def test_a_wrong_tls_file_is_one_line_that_names_the_setting(
    authority: Authority, setting: str
) -> None:
    words = tls_words(authority)
    assert complaint(*TLS_URLS, *flags(words | {setting: "nowhere"})) == (
        f"--{setting}: nowhere: No such file or directory"
    )
    nonsense = authority.directory / "nonsense"
    nonsense.write_text("-----BEGIN NONSENSE-----")
    said = complaint(*TLS_URLS, *flags(words | {setting: str(nonsense)}))
    assert said.startswith(f"--{setting}: {nonsense}: there is no ")


@pytest.mark.parametrize("prefix", ["", "source-", "target-"])
def test_a_certificate_and_its_key_are_given_together(authority: Authority, prefix: str) -> None:
    words = tls_words(authority)
    for given, missing in (("cert", "key"), ("key", "cert")):
        some = {name: value for name, value in words.items() if name != f"{prefix}tls-{missing}"}
        assert complaint(*TLS_URLS, *flags(some)) == (
            f"--{prefix}tls-{missing}: it is required with --{prefix}tls-{given}"
        )


def test_a_ca_for_clients_needs_a_certificate_of_ours(authority: Authority) -> None:
    said = complaint(*URLS, "--tls-client-ca", str(authority.ca))
    assert said == "--tls-cert: it is required with --tls-client-ca"


@pytest.mark.parametrize("setting", [n for n in TLS_SETTINGS if "t-tls" in n or "e-tls" in n])
def test_tls_settings_of_a_store_without_tls_are_a_mistake(
    authority: Authority, setting: str
) -> None:
    words = tls_words(authority)
    said = complaint(*URLS, f"--{setting}", words[setting])
    side = setting.partition("-")[0]
    assert said.startswith(f"--{setting}: --{side} is a URL without TLS (rediss://")
