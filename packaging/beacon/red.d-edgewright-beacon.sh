#!/bin/sh
# To /usr/lib/greenboot/red.d/50-edgewright-beacon.sh: the boot failed its checks.
exec /usr/libexec/edgewright-beacon failed
