# The coordinator: no torch, no compiler, not root, nothing written outside /data and /tmp.
#   docker build -f docker/coordinator.Dockerfile -t pleura-coordinator .
#   docker run --read-only --tmpfs /tmp -v pleura:/data -p 8420:8420 --env-file coordinator.env pleura-coordinator
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY crypto crypto
COPY models models
COPY coordinator coordinator
COPY participant participant
COPY simulation simulation
COPY migrations migrations
RUN python -m venv /opt/pleura \
 && /opt/pleura/bin/pip install --no-cache-dir --constraint requirements.lock '.[coordinator]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home pleura \
 && install --directory --owner pleura --mode 0700 /data
COPY --from=build /opt/pleura /opt/pleura
ENV PATH=/opt/pleura/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PLEURA_DATA_DIR=/data PLEURA_HOST=0.0.0.0 PLEURA_PORT=8420
USER pleura
VOLUME /data
EXPOSE 8420
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PLEURA_PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["pleura-coordinator"]
CMD ["serve"]
