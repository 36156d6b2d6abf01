# The server as an image: docker build -t lastcall . && docker run --stop-timeout 1860 -p 8000:8000 lastcall
# (Docker kills after ten seconds unless it is told how long a drain may take; compose.yaml tells it.)

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/lastcall
# The packages first: that layer lasts as long as their versions.
COPY requirements.txt ./
RUN grep -v '^--editable' requirements.txt > packages.txt \
    && pip --python /opt/lastcall install --no-cache-dir -r packages.txt
COPY pyproject.toml README.md LICENSE ./
COPY lastcall lastcall
RUN pip --python /opt/lastcall install --no-cache-dir --no-deps . \
    && pip --python /opt/lastcall check

FROM python:3.13-slim
# tini is process 1, because the kernel drops a signal to process 1 that has no handler yet: a stop
# during start-up would go unheard until the kill. It passes each signal on to the server and to
# nobody else, and reaps what a killed worker leaves.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 lastcall \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin lastcall \
    && install -d -o lastcall -g lastcall -m 0700 /run/lastcall /var/lib/lastcall
COPY --from=build /opt/lastcall /opt/lastcall
WORKDIR /app
COPY main.py ./

# WEB_CONCURRENCY is how many workers uvicorn starts.
ENV PATH=/opt/lastcall/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    WEB_CONCURRENCY=4 \
    LASTCALL_RUN_DIR=/run/lastcall \
    LASTCALL_STATE_DIR=/var/lib/lastcall

USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Live, not ready: whoever acts on Docker's verdict (Swarm, an autoheal) kills what is unhealthy. A
# server that drains, or whose broker is away, is not ready and must be left alone. A proxy that
# chooses where new clients go asks /health/ready itself. There is no curl here, and urllib would go
# through a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=3); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["tini", "--"]
CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]
