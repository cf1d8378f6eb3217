#!/usr/bin/env bash
# Whether Maven can resolve anything, so that `make test-kafka` is skipped only for want of a registry.
exec timeout 120 mvn -q -B dependency:get -Dartifact=org.slf4j:slf4j-api:2.0.16 -Dtransitive=false >/dev/null 2>&1
