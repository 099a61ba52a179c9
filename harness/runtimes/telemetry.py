"""onnxruntime 1.29 and newer tells its maker what it runs, from a thread of the process that uses it: it opens
connections and writes a database below ~/.cache, also in a measured window.

OFF, set before its import, keeps all of that away (microsoft/onnxruntime#27379). Set by the command line for this
machine, and by device.open_transport for every device; a device's `env` may say otherwise.
"""
OFF = {"ORT_DISABLE_TELEMETRY": "1"}
