"""Cheap readers, and every generation of tegrastats."""

from edgekit.profiling.sensors import clock_reader, heat_reader, parse_tegrastats
from tests.profiling.board_trees import put, tree

NANO = (
    "RAM 330/3964MB (lfb 758x4MB) SWAP 0/1982MB (cached 0MB) CPU [3%@102,2%@102,off,0%@102] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@20.5C CPU@23C PMIC@100C GPU@22.5C AO@27C thermal@22.5C "
    "POM_5V_IN 933/933 POM_5V_GPU 0/0 POM_5V_CPU 84/84"
)
NANO_ROOT = (
    "RAM 1200/3964MB (lfb 300x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [10%@1479,12%@1479,9%@1479,8%@1479] EMC_FREQ 3%@204 GR3D_FREQ 5%@76 APE 25 PLL@40C"
)
TX2 = (
    "RAM 2000/7850MB (lfb 900x4MB) CPU [5%@345,off,off,2%@345,1%@345,0%@345] SWAP 0/3925MB "
    "(cached 0MB) EMC_FREQ 1%@665 GR3D_FREQ 0%@114 APE 150 MTS fg 0% bg 0% BCPU@-45C MCPU@-45C "
    "GPU@-51C PLL@-45C Tboard@35C Tdiode@-45.5C PMIC@100C thermal@-47.1C VDD_IN 3226/3226 "
    "VDD_CPU 152/152 VDD_GPU 152/152 VDD_SOC 458/458 VDD_WIFI 0/0 VDD_DDR 575/575"
)
XAVIER = (
    "RAM 3000/15692MB (lfb 2500x4MB) SWAP 0/7846MB (cached 0MB) "
    "CPU [1%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@318 "
    "APE 150 MTS fg 0% bg 1% AO@33.5C GPU@34C Tdiode@38C PMIC@100C AUX@34C CPU@35C thermal@34.3C "
    "Tboard@36C GPU 1155/1155 CPU 385/385 SOC 1155/1155 CV 0/0 VDDRQ 231/231 SYS5V 1842/1842"
)
AGX_ORIN = (
    "01-03-2023 16:07:54 RAM 4000/30592MB (lfb 5000x4MB) SWAP 0/15296MB (cached 0MB) "
    "CPU [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,off,off,off,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C CPU@42.5C "
    "Tboard@33C SOC2@39.2C Tdiode@34C SOC0@39.6C CV1@-256C GPU@-256C tj@42.5C SOC1@38.9C CV2@-256C "
    "VDD_GPU_SOC 2390mW/2390mW VDD_CPU_CV 398mW/398mW VIN_SYS_5V0 2520mW/2520mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 404mW/404mW NC 0mW/0mW"
)
ORIN_NANO = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) "
    "CPU [15%@729,11%@729,14%@729,13%@729,11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] "
    "NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@53.968C soc2@52.437C soc0@50.75C "
    "gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW VDD_CPU_GPU_CV 4667mW/4667mW "
    "VDD_SOC 2817mW/2817mW"
)
ORIN_NANO_USER = ORIN_NANO.replace("EMC_FREQ 43%@2133 ", "").replace("63%@[621]", "63%")
ORIN_NANO_JP7 = (
    "09-19-2026 13:33:03 RAM 2845/7486MB (lfb 33x4MB) "
    "CPU [2%@729,1%@729,0%@729,0%@729,0%@729,1%@729] "
    "EMC_FREQ 3%@665 GR3D_FREQ 0%@[305] NVDEC0 off APE 200 cpu@45.375C/45.812C tj@45.5C/46C "
    "VDD_IN 3462mW/3522mW/3582mW VDD_CPU_GPU_CV 442mW/483mW/523mW VDD_SOC 1127mW/1127mW/1130mW"
)
AGX_ORIN_JP7 = "CPU [1%@729] GR3D_FREQ 12%@[1300,1300] VDD_GPU_SOC 2390mW/2400mW/2500mW"
THOR = (
    "07-02-2026 13:45:44 RAM 36529/125749MB (lfb 12x4MB) SWAP 11/4096MB (cached 9MB) "
    f"CPU [{','.join(['3%@2601'] * 14)}] cpu@60.406C tj@63.281C soc012@58.468C gpu@62.906C "
    "soc345@63.281C VDD_GPU 37528mW/37528mW/37528mW VDD_CPU_SOC_MSS 18961mW/18961mW/18961mW "
    "VIN_SYS_5V0 18331mW/18331mW/18331mW VIN 87426mW/43713mW/87426mW"
)
THOR_CLOCKS = "CPU [3%@2601] GR3D_FREQ @[1000,1000,1000] VIN 5mW/5mW/5mW"


def test_nano():
    line = parse_tegrastats(NANO)
    assert line.ram_mb == (330, 3964)
    assert line.cpu_loads == (3, 2, None, 0)
    assert line.cpu_mhz == (102, 102, None, 102)
    assert (line.gpu_load, line.gpu_mhz, line.memory_mhz) == (0, None, None)
    assert line.celsius == {"PLL": 20.5, "CPU": 23.0, "GPU": 22.5, "AO": 27.0, "thermal": 22.5}
    assert line.milliwatts == {"POM_5V_IN": 933, "POM_5V_GPU": 0, "POM_5V_CPU": 84}


def test_nano_as_root():
    line = parse_tegrastats(NANO_ROOT)
    assert (line.gpu_load, line.gpu_mhz, line.memory_mhz) == (5, 76, 204)
    assert line.milliwatts == {}  # neither RAM, SWAP nor IRAM is a rail


def test_tx2_has_real_temperatures_below_zero():
    line = parse_tegrastats(TX2)
    assert line.cpu_loads == (5, None, None, 2, 1, 0)
    assert line.celsius["GPU"] == -51.0
    assert line.celsius["Tdiode"] == -45.5
    assert line.milliwatts == {
        "VDD_IN": 3226,
        "VDD_CPU": 152,
        "VDD_GPU": 152,
        "VDD_SOC": 458,
        "VDD_WIFI": 0,
        "VDD_DDR": 575,
    }


def test_xavier_has_a_rail_and_a_list_of_one_name():
    line = parse_tegrastats(XAVIER)
    assert len(line.cpu_loads) == 8
    assert line.milliwatts == {
        "GPU": 1155,
        "CPU": 385,
        "SOC": 1155,
        "CV": 0,
        "VDDRQ": 231,
        "SYS5V": 1842,
    }


def test_agx_orin_skips_what_is_off_or_not_connected():
    line = parse_tegrastats(AGX_ORIN)
    assert "GPU" not in line.celsius and "CV0" not in line.celsius
    assert line.celsius["tj"] == 42.5
    assert line.milliwatts == {
        "VDD_GPU_SOC": 2390,
        "VDD_CPU_CV": 398,
        "VIN_SYS_5V0": 2520,
        "VDDQ_VDD2_1V8AO": 404,
    }
    assert (line.gpu_load, line.gpu_mhz) == (0, 0)


def test_orin_nano():
    line = parse_tegrastats(ORIN_NANO)
    assert line.ram_mb == (6185, 7620)
    assert (line.gpu_load, line.gpu_mhz, line.memory_mhz) == (63, 621, 2133)
    assert line.celsius["cpu"] == 53.968
    assert line.milliwatts["VDD_IN"] == 12479


def test_orin_nano_without_root():
    line = parse_tegrastats(ORIN_NANO_USER)
    assert (line.gpu_load, line.gpu_mhz, line.memory_mhz) == (63, None, None)


def test_jetpack_7_adds_the_highest_and_the_first_is_now():
    line = parse_tegrastats(ORIN_NANO_JP7)
    assert line.celsius == {"cpu": 45.375, "tj": 45.5}
    assert line.milliwatts == {"VDD_IN": 3462, "VDD_CPU_GPU_CV": 442, "VDD_SOC": 1127}
    assert line.gpu_mhz == 305
    assert parse_tegrastats(AGX_ORIN_JP7).gpu_mhz == 1300


def test_thor_may_have_no_gpu_or_clocks_without_a_load():
    line = parse_tegrastats(THOR)
    assert (line.gpu_load, line.gpu_mhz) == (None, None)
    assert len(line.cpu_loads) == 14
    assert line.milliwatts["VIN"] == 87426
    clocks = parse_tegrastats(THOR_CLOCKS)
    assert (clocks.gpu_load, clocks.gpu_mhz) == (None, 1000)


def test_lines_that_are_none():
    for text in (
        "",
        "tegrastats: command not found",
        "\0\xff" * 5000,
        "CPU [" * 5000,
        "A 1/1 " * 9999,
    ):
        line = parse_tegrastats(text)
        assert line.ram_mb is None and line.gpu_mhz is None


def test_the_clock_is_a_mean_over_the_given_cpus(tmp_path):
    root = tree(tmp_path, "rpi4")
    assert clock_reader((1,), root)() == 1500.0
    assert clock_reader((2, 3), root)() == 800.0
    assert clock_reader((), root)() == 1150.0


def test_the_clock_is_read_each_time(tmp_path):
    root = tree(tmp_path, "rpi4")
    read = clock_reader((1,), root)
    read()
    put(root, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "600000\n")
    assert read() == 600.0
    put(root, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "<unknown>\n")
    assert read() is None


def test_no_clock(tmp_path):
    assert clock_reader((0,), tmp_path)() is None


def test_the_hottest_sensor(tmp_path):
    root = tree(tmp_path, "orin-nano")
    read = heat_reader(root)
    assert read() == 55.125
    put(root, "sys/class/thermal/thermal_zone0/temp", "80000\n")
    assert read() == 80.0
    assert heat_reader(tmp_path / "nothing")() is None
