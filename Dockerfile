# A goldbed worker (and its command line) on Debian 13, whose own Node is new enough.
#
#   docker build --tag goldbed .
#
# It opens testbeds, so it needs more than a container usually has; docker-compose.yml says what and why.

FROM debian:trixie-slim AS made
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates nodejs npm
WORKDIR /opt/goldbed
COPY package.json package-lock.json .npmrc ./
RUN npm install --no-save --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY scripts/bundle.mjs scripts/left-out.cjs scripts/
RUN npm run build && npm prune --omit=dev --ignore-scripts

FROM debian:trixie-slim
# the list of packages is in one place
COPY scripts/packages /opt/goldbed/scripts/packages
RUN . /opt/goldbed/scripts/packages \
    && require_packages $run_packages nodejs \
    && rm -rf /var/lib/apt/lists/*
COPY --from=made /opt/goldbed/package.json /opt/goldbed/package.json
COPY --from=made /opt/goldbed/node_modules /opt/goldbed/node_modules
COPY --from=made /opt/goldbed/dist /opt/goldbed/dist
COPY bin /opt/goldbed/bin
COPY libexec /opt/goldbed/libexec
ENV PATH=/opt/goldbed/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# images, job folders, open testbeds: never on the container's own layers, overlayfs cannot write on top of overlayfs
VOLUME /var/lib/goldbed
CMD ["goldbed", "worker"]
