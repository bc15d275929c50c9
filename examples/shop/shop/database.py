"""The shop's database: one engine an app, one session a context."""

from __future__ import annotations

from flask import current_app
from flask import Flask
from flask import g
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import create_engine
from sqlalchemy import Engine
from sqlalchemy import func
from sqlalchemy import select
from sqlalchemy.orm import Session

from .models import Base
from .models import opening_stock
from .models import Product

__all__ = ["init_app", "session"]

LOCK_TIMEOUT_SECONDS = 10


def init_app(app: Flask) -> None:
    """Create the app's engine and, where they are missing, its tables and products."""
    engine = create_engine(f"sqlite:///{app.config['SHOP_DATABASE']}", connect_args={"timeout": LOCK_TIMEOUT_SECONDS})
    fill(engine)
    SQLAlchemyInstrumentor().instrument(engine=engine)
    app.extensions["shop_engine"] = engine
    app.teardown_appcontext(close_session)


def fill(engine: Engine) -> None:
    """Create tables and products unless they exist.

    SQLite's write lock is taken before the first look, so that of two workers starting at once the second one waits
    and then finds everything in its place.
    """
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        Base.metadata.create_all(connection)
        with Session(connection) as first:
            if not first.scalar(select(func.count()).select_from(Product)):
                first.add_all(opening_stock())
            first.commit()
        connection.commit()


def session() -> Session:
    """Return the session of this application context; it is closed with the context."""
    if "session" not in g:
        g.session = Session(current_app.extensions["shop_engine"])
    opened: Session = g.session
    return opened


def close_session(_error: BaseException | None) -> None:
    opened = g.pop("session", None)
    if opened is not None:
        opened.close()
