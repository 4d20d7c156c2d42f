# One image for every process; the verb chooses which: docker run tidemill serve commands.

FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# All pinned packages are fetched and checked against their hashes; only what the service needs is installed below.
COPY constraints.txt ./
RUN pip download --quiet --require-hashes --only-binary :all: --dest /wheels --requirement constraints.txt

COPY pyproject.toml LICENSE README.md ./
COPY src src
COPY schemas schemas
COPY migrations migrations
RUN pip install --quiet --no-index --find-links /wheels hatchling \
    && pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python -m venv /opt/tidemill \
    && /opt/tidemill/bin/pip install --quiet --no-index --find-links /wheels 'tidemill[archive,iceberg]' \
    && /opt/tidemill/bin/python -m compileall -q /opt/tidemill/lib

FROM python:3.11.14-slim-bookworm
# A new volume at /lake belongs to whom the folder belongs to.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tidemill \
    && install --directory --owner tidemill --group tidemill /lake
COPY --from=packages /opt/tidemill /opt/tidemill
ENV PATH=/opt/tidemill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TIDEMILL_HEALTH_HOST=0.0.0.0 \
    TIDEMILL_HEALTH_PORT=8080 \
    TIDEMILL_LOG_FORMAT=json
USER 10001
EXPOSE 8080

# The process says itself whether it is well; verbs that end by themselves have nobody to ask them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['TIDEMILL_HEALTH_PORT'] + '/health', timeout=4)"]

ENTRYPOINT ["tidemill"]
CMD ["--help"]
