#!/bin/sh
# Starts the edge: over TLS if there is a certificate (with its chain and key, in one file), else not.
folder=$(dirname "$0")
if [ -e "$folder/certificates/edge.pem" ]; then
  export EDGE_TLS="ssl crt $folder/certificates/edge.pem alpn h2,http/1.1"
fi
exec haproxy -W -db -f "$folder/haproxy.cfg"
