# The hot path is compiled, or there is no image. The compiler stays in the first stage; the second holds Python, a virtual environment and nothing
# else. Runs as an unprivileged user; only /var/lib/keyferry needs to be writable (and kept).
FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python -m venv /opt/keyferry \
    && KEYFERRY_PURE=0 /opt/keyferry/bin/pip install --no-cache-dir . \
    && /opt/keyferry/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/keyferry --create-home keyferry
COPY --from=build /opt/keyferry /opt/keyferry
ENV PATH=/opt/keyferry/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KEYFERRY_LISTEN=0.0.0.0:6380 \
    KEYFERRY_STATE=/var/lib/keyferry/state
USER keyferry
WORKDIR /var/lib/keyferry
VOLUME /var/lib/keyferry
# 6380: applications. 9400: admin; it stays on loopback unless KEYFERRY_ADMIN says otherwise, which
# needs KEYFERRY_ADMIN_TOKEN.
EXPOSE 6380 9400
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9400/healthz', timeout=2)"]
# SIGTERM lets the process settle what is open and leave its clean mark.
STOPSIGNAL SIGTERM
ENTRYPOINT ["keyferry"]
CMD ["run"]
