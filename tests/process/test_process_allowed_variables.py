"""Which environment variables are passed on."""

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.process.allowed_variables import TURN_NAMES, lead_path, scrub

names = st.one_of(
    st.sampled_from(
        ["PREFECT_API_KEY", "prefect_api_key", "GIT_DIR", "GIT_CONFIG_VALUE_0", "PATH", "HOME", "LC_ALL", *TURN_NAMES]
    ),
    st.text(alphabet="ABCPREFECT_", min_size=1, max_size=12),
)


def test_a_credential_does_not_pass_unless_it_is_allowed() -> None:
    environ = {
        "HOME": "/h",
        "LC_TIME": "C",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HTTPS_PROXY": "http://u:p@h",
        "SSH_AUTH_SOCK": "/s",
    }
    assert scrub(environ, []) == {"HOME": "/h", "LC_TIME": "C"}
    assert scrub(environ, ["AWS_*", "HTTPS_PROXY"]) == {
        name: environ[name] for name in environ if name != "SSH_AUTH_SOCK"
    }


@given(
    st.dictionaries(names, st.text(max_size=3)), st.lists(st.one_of(names, st.sampled_from(["*", "PREFECT_*", "?*"])))
)
def test_some_names_never_pass_whatever_is_allowed(environ: dict[str, str], allow: list[str]) -> None:
    kept = scrub(environ, allow, git_variables=("GIT_DIR",))
    assert kept.items() <= environ.items()
    assert not {name for name in kept if name.upper().startswith("PREFECT_")}
    assert not kept.keys() & {"GIT_DIR", "GIT_CONFIG_VALUE_0", *TURN_NAMES}


def test_our_own_virtual_environment_is_not_handed_on() -> None:
    environ = {"PATH": "/v/bin:/usr/bin:/v/bin/:/bin", "VIRTUAL_ENV": "/v", "PYTHONPATH": "/p", "PYTHONHOME": "/v"}
    assert scrub(environ, [], own_bin="/v/bin") == {"PATH": "/usr/bin:/bin"}
    assert scrub(environ, ["PYTHONPATH"], own_bin="/v/bin")["PYTHONPATH"] == "/p"


def test_a_path_is_never_left_empty() -> None:
    assert scrub({"PATH": "/v/bin"}, [], own_bin="/v/bin")["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert lead_path({}, "/ours")["PATH"] == "/ours:/usr/local/bin:/usr/bin:/bin"


def test_a_directory_leads_the_path() -> None:
    assert lead_path({"A": "1", "PATH": "/bin"}, "/ours") == {"A": "1", "PATH": "/ours:/bin"}
