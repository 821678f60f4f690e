#!/bin/sh
# Answers every request with the name of the node it runs on.
set -eu
mkdir -p /tmp/www
echo "hello from $NODE" > /tmp/www/index.html
exec httpd -f -p 8080 -h /tmp/www
