"""`cloze up`: the Prefect server and UI, the flows registered as deployments, schedules and retries. Ctrl-C stops it all.

Runs started from the UI or by cron execute in processes of their own, so a killed one takes nothing with it; the sweeper
marks it Crashed within ten seconds, and Retry continues it.
"""

import json
import signal
import sys
import warnings
from argparse import Namespace
from typing import Any

from flows import api
from flows import run as runs
from flows.report import console
from flows.settings import Settings


def up(args: Namespace) -> int:
    """Serve until interrupted. Raises OSError when the port is taken."""
    settings = Settings(store=args.store)
    runs.open_store(settings)
    port = api.free_port(args.port)
    if port != args.port:
        raise OSError(
            f"port {args.port} on 127.0.0.1 is in use; stop what listens there or give another, e.g. --port {port}"
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}/api"
    server = api.start_server(settings.home, port, recorder=False)
    announced = settings.home / "up.json"
    keeper: api.Keeper | None = None
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        api.wait_until_up(server, url, settings.home / "prefect" / "server.log")
        api.configure(settings.home, url)
        announced.write_text(json.dumps({"api": url}))
        keeper = api.Keeper(server, settings.home, port, recorder=False)
        _serve(settings, args, url)
    except KeyboardInterrupt:
        console("stopping")
    finally:
        announced.unlink(missing_ok=True)
        if keeper is None:
            server.kill()
            server.wait()
        else:
            keeper.close()
    return 0


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _serve(settings: Settings, args: Namespace, url: str) -> None:
    from prefect import serve

    from flows.schedules import deployments
    from flows.sweep import Sweeper, sweep

    store = runs.open_store(settings)
    sweep(store)
    sweeper = Sweeper(store, console)
    sweeper.start()
    made = deployments(
        args.recipe,
        settings.store,
        refresh_cron=args.refresh_cron,
        pretrain_cron=args.pretrain_cron,
        pretrain_on_refresh=args.pretrain_on_refresh,
    )
    console(f"Prefect UI   {url.removesuffix('/api')}   (user interface, runs, schedules, retries)")
    console(f"store        {settings.store}")
    for deployment in made:
        cron = deployment.schedules[0].schedule.cron if deployment.schedules else "on request"
        console(f"deployment   {deployment.flow_name}/{deployment.name:<12} {cron}")
    sys.stderr.flush()
    # at SIGTERM prefect 3.8's runner calls its coroutine `astop` without waiting for it, and then stops all the same
    warnings.filterwarnings("ignore", "coroutine 'Runner.astop'", RuntimeWarning)
    try:
        serve(*made, print_starting_message=False)
    finally:
        sweeper.stop()
