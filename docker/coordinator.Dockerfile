# The coordinator: no torch, no compiler, not root, nothing written outside /data and /tmp.
#   docker build -f docker/coordinator.Dockerfile -t pleura-coordinator .
#   docker run --read-only --tmpfs /tmp -v pleura:/data -p 127.0.0.1:8420:8420 --env-file coordinator.env pleura-coordinator
FROM python:3.11-slim AS build
# The driver for PostgreSQL, which the lock does not have.
ARG PSYCOPG=3.3.9
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY crypto crypto
COPY models models
COPY coordinator coordinator
COPY participant participant
COPY simulation simulation
COPY migrations migrations
RUN python -m venv /opt/pleura \
 && /opt/pleura/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock \
      '.[coordinator]' "psycopg[binary]==${PSYCOPG}"

FROM python:3.11-slim
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pleura coordinator" \
      org.opencontainers.image.description="The meeting point of a federation: adds ciphertexts that it cannot read" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 pleura \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pleura \
 && install --directory --owner 10001 --group 10001 --mode 0700 /data
COPY --from=build /opt/pleura /opt/pleura
ENV PATH=/opt/pleura/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PLEURA_DATA_DIR=/data \
    PLEURA_HOST=0.0.0.0 \
    PLEURA_PORT=8420
# By number: Kubernetes cannot tell that a name is not root's.
USER 10001:10001
VOLUME /data
EXPOSE 8420
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PLEURA_PORT\"]}/readyz', timeout=4)"]
# Exec form: the coordinator itself is given SIGTERM, answers waiting agents and ends.
ENTRYPOINT ["pleura-coordinator"]
CMD ["serve"]
