# One image for the service, the producer and the cluster's Spark processes, so that Python is the same everywhere.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}

# jre: Spark. procps: Spark's own scripts call ps.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless procps >/dev/null \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --quiet --disable-pip-version-check --root-user-action=ignore \
      --require-hashes -r requirements.lock \
 && ln -s "$(python3 -c 'import pyspark; print(pyspark.__path__[0])')" /opt/spark

# At build, never at start: a container starts the same without a network.
COPY conf/ivy.xml conf/
RUN java -jar /opt/spark/jars/ivy-*.jar \
      -ivy conf/ivy.xml -cache /tmp/ivy -confs spark monitor -retrieve '/app/.jars/[conf]/[artifact]-[revision].[ext]' >/tmp/ivy.log 2>&1 \
 || { tail -30 /tmp/ivy.log; exit 1; }; rm -rf /tmp/*

# Hadoop wants a name for its user, so the one who owns the outputs must exist in the image.
ARG APP_UID=1000
ARG APP_GID=1000
RUN (getent group ${APP_GID} >/dev/null || groupadd --gid ${APP_GID} app) \
 && (getent passwd ${APP_UID} >/dev/null \
     || useradd --no-log-init --uid ${APP_UID} --gid ${APP_GID} --no-create-home --home-dir /tmp app)
COPY conf conf
COPY producer producer
COPY stream_app stream_app
# chmod: a checkout made under a strict umask is root's alone.
RUN chmod -R a+rX conf producer stream_app && python3 -m compileall -q producer stream_app
USER ${APP_UID}:${APP_GID}
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/app:/app/stream_app/runtime/start PYSPARK_PYTHON=python3
CMD ["python3", "-m", "stream_app"]
