# Elasticsearch from its integ-test-zip: one node, optionally with users and TLS.
# Instances share the unpacked distribution, which is read-only. A node writes to DIR alone.
# shellcheck shell=bash disable=SC2154,SC2034

SERVER_USER=flowsigma-es # Elasticsearch refuses to run as root
READABLE_INDEX=seceon_flows
ADMIN_USER=admin_user READER_USER=reader_user READER_ROLE=flows_reader
CLIENT_NAME=client_user # of the client certificate

# Sets AS_SERVER_USER, a prefix that runs a command as the server's user.
prepare_elasticsearch() {
  AS_SERVER_USER=()
  ((EUID == 0)) || return 0
  require_commands setpriv useradd
  AS_SERVER_USER=(setpriv "--reuid=$SERVER_USER" "--regid=$SERVER_USER" --clear-groups)
  # The second check is for two starts at the same time.
  id "$SERVER_USER" >/dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$SERVER_USER" ||
    id "$SERVER_USER" >/dev/null
}

fetch_elasticsearch() { # DIRECTORY
  run_maven copy -DoutputDirectory="$1" \
    -Dartifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:$VERSION:zip"
  (cd "$1" && "$JAVA/bin/jar" xf "elasticsearch-$VERSION.zip")
  mv "$1/elasticsearch-$VERSION"/* "$1"
  rm -r "$1/elasticsearch-$VERSION" "$1/elasticsearch-$VERSION.zip"
  chmod +x "$1"/bin/*
}

configure_elasticsearch() {
  local config=$DIR/config
  "${AS_SERVER_USER[@]}" test -x "$DIST/bin/elasticsearch" ||
    die "user $SERVER_USER cannot enter $CACHE: set FLOWSIGMA_SERVERS to a folder that it can enter"
  IN_INSTANCE+=("ES_JAVA_HOME=$JAVA" "ES_PATH_CONF=$config" "ES_TMPDIR=$DIR/tmp")
  mkdir "$DIR/data" "$DIR/logs"
  cp -R "$DIST/config" "$config"
  # These options name paths in the distribution.
  sed -i -E '/gc\.log|HeapDump|ErrorFile/d' "$config/jvm.options"
  cat >"$config/elasticsearch.yml" <<EOF
cluster.name: $CLUSTER
node.name: node-1
path.data: $DIR/data
path.logs: $DIR/logs
network.host: 127.0.0.1
http.host: $HTTP_HOSTS
http.port: $HTTP_PORT
transport.port: $TRANSPORT_PORT
discovery.type: single-node
cluster.routing.allocation.disk.threshold_enabled: false
xpack.security.enabled: $SECURITY
EOF
  [[ $TLS == false ]] || configure_tls
  [[ $SECURITY == false ]] || configure_security
  chmod 700 "$config"
  ((EUID != 0)) || chown -R "$SERVER_USER:" "$config" "$DIR/data" "$DIR/logs" "$DIR/tmp"
  [[ $SECURITY == false ]] || add_users
}

# Builds the plugin without which the distribution cannot create API keys: see SecurityAnalysis.java.
install_security_analysis() {
  local plugin=$DIST/plugins/security-analysis partial
  [[ ! -d $plugin ]] || return 0
  log "building the plugin security-analysis for $NAME"
  partial=$(mktemp -d "$CACHE/dist/.security-analysis.XXXXXX")
  cp "$LIB/SecurityAnalysis.java" "$partial"
  # The package of the tokenizer in Lucene 8.
  [[ $VERSION != 7.* ]] ||
    sed -i 's/lucene\.analysis\.email/lucene.analysis.standard/' "$partial/SecurityAnalysis.java"
  "$JAVA/bin/javac" -cp "$DIST/lib/*" -d "$partial/classes" "$partial/SecurityAnalysis.java" >&2 ||
    die "cannot compile SecurityAnalysis.java for $NAME"
  rm "$partial/SecurityAnalysis.java"
  "$JAVA/bin/jar" cf "$partial/security-analysis.jar" -C "$partial/classes" .
  rm -r "$partial/classes"
  cat >"$partial/plugin-descriptor.properties" <<EOF
name=security-analysis
description=what the index .security needs
version=1
classname=SecurityAnalysis
java.version=1.8
elasticsearch.version=$VERSION
EOF
  chmod -R a+rX "$partial"
  # Of two starts at the same time, one moves its folder first.
  mv -T "$partial" "$plugin" 2>/dev/null || rm -r "$partial"
}

configure_security() {
  install_security_analysis
  cat >>"$DIR/config/elasticsearch.yml" <<EOF
xpack.security.transport.ssl.enabled: false
xpack.security.http.ssl.enabled: $TLS
EOF
  cat >"$DIR/config/roles.yml" <<EOF
$READER_ROLE:
  indices:
    - names: ["$READABLE_INDEX"]
      privileges: ["read", "view_index_metadata"]
EOF
}

add_users() {
  add_user "$ADMIN_USER" superuser
  add_user "$READER_USER" "$READER_ROLE"
  echo "user = \"$ADMIN_USER:$(cat "$DIR/$ADMIN_USER.password")\"" >>"$DIR/curlrc"
}

# The password is passed by a file and standard input, so that no process list shows it.
add_user() { # USER ROLE
  local file=$DIR/$1.password
  (umask 077 && od -An -N18 -tx1 /dev/urandom | tr -d ' \n' >"$file")
  { cat "$file"; echo; cat "$file"; echo; } |
    "${IN_INSTANCE[@]}" "$DIST/bin/elasticsearch-users" useradd "$1" -r "$2" >>"$DIR/server.log" 2>&1
}

print_users() {
  echo "USER=$ADMIN_USER"
  echo "PASSWORD_FILE=$DIR/$ADMIN_USER.password"
  echo "READER_USER=$READER_USER"
  echo "READER_PASSWORD_FILE=$DIR/$READER_USER.password"
}

configure_tls() {
  local tls=$DIR/tls
  require_commands openssl
  mkdir "$tls"
  cat >"$tls/openssl.cnf" <<'EOF'
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
EOF
  make_certificate "$tls/ca" "Flowsigma test CA" -x509 -extensions authority
  make_certificate "$tls/wrong-ca" "Unrelated test CA" -x509 -extensions authority
  make_signed_certificate "$tls/http" localhost server
  make_signed_certificate "$tls/client" "$CLIENT_NAME" client
  cp "$tls/ca.crt" "$tls/http.key" "$DIR/config"
  # With its authority, like an Elasticsearch that generated its certificates itself.
  cat "$tls/http.crt" "$tls/ca.crt" >"$DIR/config/http.crt"
  # The realm is inactive until a test starts the trial licence.
  cat >>"$DIR/config/elasticsearch.yml" <<'EOF'
xpack.security.http.ssl.certificate: http.crt
xpack.security.http.ssl.key: http.key
xpack.security.http.ssl.client_authentication: optional
xpack.security.http.ssl.certificate_authorities: [ca.crt]
xpack.security.authc.realms.pki.certificates.order: 9
EOF
  echo "cacert = \"$tls/ca.crt\"" >>"$DIR/curlrc"
}

# Creates PATH.key (0600) and PATH.crt. Options may replace the latter.
make_certificate() { # PATH COMMON_NAME OPTION...
  openssl req -config "${1%/*}/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -days 30 -subj "/CN=$2" -keyout "$1.key" -out "$1.crt" "${@:3}" 2>/dev/null
}

make_signed_certificate() { # PATH COMMON_NAME EXTENSIONS
  make_certificate "$1" "$2" -out "$1.csr"
  openssl x509 -req -days 30 -in "$1.csr" -CA "${1%/*}/ca.crt" -CAkey "${1%/*}/ca.key" \
    -CAcreateserial -extfile "${1%/*}/openssl.cnf" -extensions "$3" -out "$1.crt" 2>/dev/null
}

print_authorities() {
  echo "CA_FILE=$DIR/tls/ca.crt"
  echo "WRONG_CA_FILE=$DIR/tls/wrong-ca.crt"
  echo "CLIENT_CERT_FILE=$DIR/tls/client.crt"
  echo "CLIENT_KEY_FILE=$DIR/tls/client.key"
}

launch_elasticsearch() {
  local heap=${FLOWSIGMA_HEAP:-512m}
  IN_INSTANCE+=("ES_JAVA_OPTS=-Xms$heap -Xmx$heap -XX:ErrorFile=$DIR/logs/hs_err_pid%p.log")
  launch "$DIST/bin/elasticsearch" -p "$DIR/logs/pid"
}
