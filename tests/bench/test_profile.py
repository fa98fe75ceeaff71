"""Whose a sample is."""

from __future__ import annotations

from .profile import OTHER, OTHER_KERNEL, layer, shares

LOOP = "__pyx_f_6uvloop_4loop___uv_stream_on_read (/x/uvloop/loop.so)"
TABLE = "__pyx_f_5proxy_8keytable_8KeyTable_acquire (/x/proxy/keytable.so)"
SESSION = "__pyx_f_5proxy_7session_7Session_run (/x/proxy/session.so)"
SCAN = "__pyx_f_5proxy_4resp_8requests_14RequestScanner__scan (/x/proxy/resp/requests.so)"
MALLOC = "_PyObject_Malloc (/x/libpython3.so)"


def test_the_innermost_layer_has_the_sample_and_what_the_interpreter_does_for_it() -> None:
    assert layer([MALLOC, TABLE, SESSION, LOOP]) == "key table"
    assert layer([MALLOC, SCAN, SESSION, LOOP]) == "requests: framing, names, keys"
    assert layer([MALLOC, SESSION, LOOP]) == "session: dispatch, tickets"
    assert layer([MALLOC, LOOP]) == "uvloop"
    assert layer([MALLOC]) == OTHER


def test_the_kernel_works_for_a_system_call() -> None:
    sent = ["tcp_ack ([kernel.kallsyms])", "ksys_write ([kernel.kallsyms])", LOOP]
    assert layer(sent) == "kernel: writing to sockets"
    assert layer(["do_epoll_wait ([kernel.kallsyms])"]) == "kernel: waiting for events"
    assert layer(["asm_exc_page_fault ([kernel.kallsyms])", TABLE]) == OTHER_KERNEL


def test_shares_are_of_all_samples() -> None:
    text = f"  1 {MALLOC}\n  2 {TABLE}\n\n  3 {LOOP}\n\n  4 {LOOP}\n\n  5 {LOOP}\n"
    assert shares(text) == {"uvloop": 0.75, "key table": 0.25}
