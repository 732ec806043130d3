# The agent of a hospital: not root, no open port, nothing written outside its home and /tmp; the images are mounted read-only.
#   docker build -f docker/participant.Dockerfile --build-arg TORCH_INDEX=URL -t pleura-participant .
#   docker run --rm -it --init --read-only --tmpfs /tmp -v pleura-home:/var/lib/pleura -v /data/ct:/data:ro pleura-participant \
#     init --name "St. Mary" --coordinator https://pleura.example.org --data /data
#
# TORCH_BUILD is the build of torch: cpu, or one for CUDA such as cu128, which needs `docker run --gpus all`; empty takes
# whatever pip's own index has. TORCH_INDEX is the package index that has it; PyTorch's installation page names one for
# each build. Any other build than the one asked for ends the build of the image.
FROM python:3.11-slim AS build
ARG TORCH_BUILD=cpu
ARG TORCH_INDEX=""
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY requirements.lock ./
# As in the Makefile torch goes in first and by itself; it is most of the image, and this layer outlives changes of ours.
RUN python -m venv /opt/pleura \
 && grep -E '^(torch|torchvision)==' requirements.lock | sed "s/\$/${TORCH_BUILD:++$TORCH_BUILD}/" > torch.txt \
 && /opt/pleura/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --requirement torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY crypto crypto
COPY models models
COPY coordinator coordinator
COPY participant participant
COPY simulation simulation
COPY migrations migrations
RUN /opt/pleura/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock '.[participant]'

FROM python:3.11-slim
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pleura participant" \
      org.opencontainers.image.description="The agent at a hospital: trains here, sends only ciphertexts" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Its home is the volume, so that what libraries cache lands there too and the root file system can be read-only.
RUN groupadd --gid 10001 pleura \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/pleura --shell /usr/sbin/nologin pleura \
 && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/pleura
COPY --from=build /opt/pleura /opt/pleura
ENV PATH=/opt/pleura/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PLEURA_HOME=/var/lib/pleura
USER 10001:10001
VOLUME /var/lib/pleura
# Nothing listens here that could be asked; `run` retries by itself, and its end is what a supervisor has to see.
HEALTHCHECK NONE
# Exec form: the agent itself is given SIGTERM and resumes where it was when it is started again.
ENTRYPOINT ["pleura-participant"]
CMD ["run"]
