"""What a lab phone pretends to be: an Android 13 phone on battery, with getprop, dumpsys and the sysfs that adb reads.

Used by lab.py; the shell behind it is this machine's /bin/sh and the daemon is Google's own adbd (adbd_build.py).
Formats from AOSP's sources; nothing was read from a phone and every number is made up (board.SYNTHETIC). It has no
zygote, no SELinux and no Doze, so it proves the cable and the agent, never a phone's behaviour.
"""
from harness.lab.board import SYNTHETIC, Board, cpufreq, thermal

PORT = 5555
HOME = "/data/local/tmp"

_PROPERTIES = {
    "ro.product.manufacturer": "Google", "ro.product.model": "Pixel 6 (lab)", "ro.product.device": "oriole",
    "ro.board.platform": "gs101", "ro.build.version.release": "13", "ro.build.version.sdk": "33",
    "ro.product.cpu.abi": "arm64-v8a", "ro.boot.serialno": "LAB0000001", "sys.boot_completed": "1",
}

_GETPROP = """\
#!/bin/sh
# Stands in for Android's getprop.
if [ $# -eq 0 ]; then sed 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/' /sys/android/properties; exit 0; fi
sed -n "s/^$1=//p" /sys/android/properties
"""

_DUMPSYS = """\
#!/bin/sh
# Stands in for Android's dumpsys: the services' answers lie in /sys/android.
cat "/sys/android/dumpsys.$1" 2>/dev/null || { echo "Can't find service: $1"; exit 1; }
"""

_SETTINGS = """\
#!/bin/sh
# Stands in for Android's settings.
cat "/sys/android/settings.$3" 2>/dev/null || echo null
"""

_STATE = {"screen_brightness": 102, "wifi_on": 1, "bluetooth_on": 0, "mobile_data": 1, "airplane_mode_on": 0}

_BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: false
  Wireless powered: false
  Max charging current: 0
  Max charging voltage: 0
  Charge counter: 3270000
  status: 3
  health: 2
  present: true
  level: 67
  scale: 100
  voltage: 3964
  temperature: 274
  technology: Li-ion
"""

_THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
Thermal Status: {status}
Cached temperatures:
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue={cpu_c}, mType=0, mName=CPU, mStatus={status}}}
\tTemperature{{mValue={skin_c}, mType=3, mName=SKIN, mStatus={status}}}
\tTemperature{{mValue=27.4, mType=2, mName=BATTERY, mStatus=0}}
Current cooling devices from HAL:
"""


def phone() -> Board:
    """Discharging at about 1 W."""
    supply = "class/power_supply/battery/"
    sys_files = {
        SYNTHETIC: "Every sensor of this device is a fixture.\n",
        "android/properties": "".join(f"{name}={value}\n" for name, value in _PROPERTIES.items()),
        "android/dumpsys.battery": _BATTERY,
        "android/dumpsys.power": "Power Manager State:\n  mWakefulness=Awake\n",
        **{f"android/settings.{name}": f"{value}\n" for name, value in _STATE.items()},
        "android/dumpsys.thermalservice": _THERMAL.format(status=0, cpu_c=38.1, skin_c=34.2),
        f"{supply}type": "Battery\n", f"{supply}status": "Discharging\n", f"{supply}capacity": "67\n",
        f"{supply}voltage_now": "3964000\n", f"{supply}current_now": "-251000\n",
        f"{supply}charge_counter": "3270000\n", f"{supply}temp": "274\n", f"{supply}present": "1\n",
        f"{supply}technology": "Li-ion\n",
        "class/power_supply/usb/type": "USB\n", "class/power_supply/usb/online": "0\n",
        **thermal({"BIG": 38100, "LITTLE": 36400, "skin_therm": 34200}),
        **cpufreq({0: (1803000, 1197000), 4: (2253000, 1328000), 6: (2802000, 1826000)}),
    }
    hot = {"class/thermal/thermal_zone0/temp": "91000\n",
           "android/dumpsys.thermalservice": _THERMAL.format(status=3, cpu_c=91.0, skin_c=47.9),
           **cpufreq({0: (1803000, 738000), 4: (2253000, 799000), 6: (2802000, 851000)})}
    # The agent asks where Android has its tools, a person by PATH.
    files = {"usr/bin/getprop": _GETPROP, "usr/bin/dumpsys": _DUMPSYS, "system/bin/dumpsys": _DUMPSYS,
             "system/bin/settings": _SETTINGS, "data/local/tmp/.keep": ""}
    return Board("phone", "android-phone", 8192, files, sys_files, hot)
