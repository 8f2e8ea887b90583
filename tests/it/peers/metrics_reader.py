"""Reads /metrics with the parser of prometheus_client: a line of JSON per sample, then "ready".

    metrics_reader.py PORT
"""

import http.client
import json
import sys

from prometheus_client.parser import text_string_to_metric_families

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
connection.request("GET", "/metrics")
answer = connection.getresponse()
assert answer.status == 200, answer.status
text = answer.read().decode()
for family in text_string_to_metric_families(text):
    for sample in family.samples:
        print(json.dumps({
            "family": family.name,
            "type": family.type,
            "help": family.documentation,
            "name": sample.name,
            "labels": sample.labels,
            "value": sample.value,
        }))
print("ready")
