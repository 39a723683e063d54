"""What all tests have in common: the signals that the programs they start can hear."""

import signal


def pytest_configure() -> None:
    """Hear every signal, even where these tests were started by `nohup` or with `&`, which have some ignored.

    What is ignored stays ignored in every program that is started, and coordinator honours that, so a test that ends
    one by a signal would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
