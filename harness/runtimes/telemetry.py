"""onnxruntime 1.29 and newer has telemetry: a thread in the process that uses it, also in a measured window, which
keeps a database and a device id below ~/.cache and uploads them. No packet of it was seen here, which proves little.

OFF, set before its import, keeps all of that away (microsoft/onnxruntime#27379). Set by the command line for this
machine, and by device.open_transport for every device; a device's `env` may say otherwise.
"""
OFF = {"ORT_DISABLE_TELEMETRY": "1"}
