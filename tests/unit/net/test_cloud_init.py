import subprocess
from pathlib import Path

from gpuplan.net.cloud_init import first_boot

KEY = "ssh-ed25519 AAAA me"


def test_nothing_to_do_is_nothing() -> None:
    assert first_boot() is None


def test_what_stands_alone_is_sent_as_it_is() -> None:
    assert "#!/bin/sh\ntrue" == first_boot(own="#!/bin/sh\ntrue")
    assert '#cloud-config\n{"ssh_authorized_keys": ["ssh-ed25519 AAAA me"]}\n' == first_boot(keys=[KEY])


def test_several_parts_are_kept_apart() -> None:
    told = first_boot(env={"A": "1"}, keys=[KEY], own="#cloud-config\npackages: [git]")

    assert told is not None
    assert told.startswith("Content-Type: multipart/mixed;")
    assert 2 == told.count("text/cloud-config")
    assert 1 == told.count("text/x-shellscript")


def test_variables_arrive_as_they_are(tmp_path: Path) -> None:
    value = 'it\'s "so" $HOME `x` é'
    script = first_boot(env={"TOKEN": value})
    assert script is not None
    here = script.replace("/etc/environment", f"{tmp_path}/environment").replace("/etc/profile.d", str(tmp_path))
    subprocess.run(["sh", "-c", here], check=True, timeout=20)
    command = f'. {tmp_path}/gpuplan.sh; printf %s "$TOKEN"'
    told = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, timeout=20)

    assert value == told.stdout


def test_a_script_with_volumes_is_a_script(tmp_path: Path) -> None:
    script = first_boot(mounts={"/dev/disk/by-id/virtio-ewr 1": "/my data"})
    assert script is not None

    subprocess.run(["sh", "-n", "-c", script], check=True, timeout=20)
    assert "'/my data'" in script


def test_what_the_cloud_itself_needs_goes_beside_the_keys() -> None:
    told = first_boot(keys=[KEY], config={"chpasswd": {"expire": False}})

    assert '#cloud-config\n{"chpasswd": {"expire": false}, "ssh_authorized_keys": ["ssh-ed25519 AAAA me"]}\n' == told
    assert '#cloud-config\n{"chpasswd": {"expire": false}}\n' == first_boot(config={"chpasswd": {"expire": False}})


def test_scripts_of_the_cloud_run_before_the_users_own() -> None:
    told = first_boot(scripts=["#!/bin/sh\nfirst"], own="#!/bin/sh\nsecond")

    assert told is not None
    assert told.index("first\n") < told.index("second\n")
    assert 2 == told.count("text/x-shellscript")
    assert "#!/bin/sh\nfirst" == first_boot(scripts=["#!/bin/sh\nfirst"])
