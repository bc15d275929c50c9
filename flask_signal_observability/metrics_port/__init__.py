"""``metrics_port`` under gunicorn's hooks: a process apart from the workers answers there, however busy they are.

The master starts it (``process``) and knows nothing of the app; each worker tells it (``offer``) where its numbers are
and who may read them; it reads them as any worker does (``answer``). Nothing runs in the master itself, no thread and
no listener: what it forks inherits neither.
"""
