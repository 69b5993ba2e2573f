#!/bin/sh
# Starts the load balancer. It uses TLS if there is a certificate (with its chain and key, in one file). Without
# TLS it starts only if the folder is missing or empty: a certificate that it cannot read is an error.
folder=$(dirname "$0")
certificates=$folder/certificates
if [ -e "$certificates" ] || [ -L "$certificates" ]; then
  if ! names=$(ls -A "$certificates" 2> /dev/null); then
    echo "deploy/edge/certificates must be a folder that user 99 can read, or must not exist" >&2
    exit 2
  fi
  if [ -n "$names" ]; then
    if ! [ -f "$certificates/edge.pem" ] || ! [ -r "$certificates/edge.pem" ]; then
      echo "deploy/edge/certificates must be empty, or have a file edge.pem that user 99 can read" >&2
      exit 2
    fi
    export EDGE_TLS="ssl crt $certificates/edge.pem alpn h2,http/1.1"
  fi
fi
exec haproxy -W -db -f "$folder/haproxy.cfg"
