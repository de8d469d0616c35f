"""A hypervisor without guests for nova-compute, which loads it as `compute_driver = remembering.Driver`.

Nova's own fake driver forgets its guests when nova-compute ends, and then fails every act on them. This one believes
what Nova's database says of a guest that it does not know, so that servers outlive a restart of the stack. And it
leaves a file for each port that it has plugged into a guest, for the chassis to claim the port.

Where the stack has a real switch, a server may have a guest: a network namespace, whose path is in a file of the server's
name. A NIC of it is a pair of links, one end there, with the port's MAC and under a name of the kernel's choice, and the
other in the switch, by whose `iface-id` ovn-controller knows the port.
"""

import contextlib
import os
import pathlib
import subprocess

import nova.conf
from nova.virt import fake, hardware

# Every process of the stack knows it.
RUN = pathlib.Path(os.environ.get("OVS_RUNDIR", "/nonexistent"))
VSCTL = ("ovs-vsctl", f"--db=unix:{RUN}/ovs.sock", "--timeout=60")


def _connect(instance, vif):
    guest = pathlib.Path(nova.conf.CONF.state_path, "guests", instance.uuid)
    if not guest.exists():
        return
    link, mac, mtu = _link(vif), vif["address"], str(vif["network"].get_meta("mtu"))
    nic = ("name", "eth%d", "address", mac, "mtu", mtu, "netns", guest.read_text())
    _in_switch("ip", "link", "add", link, "mtu", mtu, "type", "veth", "peer", *nic)
    _in_switch("ip", "link", "set", link, "up")
    port = ("add-port", "br-int", link, "--", "set", "interface", link)
    subprocess.run([*VSCTL, *port, f"external_ids:iface-id={vif['id']}"], check=True)


def _disconnect(vif):
    if not (RUN / "switch.pid").exists():
        return
    subprocess.run([*VSCTL, "--if-exists", "del-port", "br-int", _link(vif)], check=True)
    with contextlib.suppress(subprocess.CalledProcessError):
        # A guest that ended took it along.
        _in_switch("ip", "link", "delete", _link(vif))


def _link(vif):
    """As Nova names it; the kernel takes 15 characters."""
    return f"tap{vif['id'][:11]}"


def _in_switch(*command):
    process = (RUN / "switch.pid").read_text().split()[0]
    subprocess.run(["nsenter", f"--net=/proc/{process}/ns/net", *command], check=True)


class Driver(fake.FakeDriverWithoutFakeNodes):
    """The fake driver with a stable node identity and plugged ports, made forgetful without harm."""

    def _recall(self, instance):
        if instance.uuid not in self.instances:
            self.instances[instance.uuid] = fake.FakeInstance(instance.name, instance.power_state, instance.uuid)

    @staticmethod
    def _plug_file(vif):
        return pathlib.Path(nova.conf.CONF.state_path, "plugged", vif["id"])

    def _plug(self, instance, vif):
        self._interfaces[vif["id"]] = vif
        # To plug what is plugged changes nothing, not even the time of the file, by which the chassis knows a new one.
        with contextlib.suppress(FileExistsError):
            self._plug_file(vif).touch(exist_ok=False)
            _connect(instance, vif)

    def _unplug(self, vif):
        self._interfaces.pop(vif["id"], None)
        self._plug_file(vif).unlink(missing_ok=True)
        _disconnect(vif)

    def plug_vifs(self, instance, network_info):
        for vif in network_info:
            self._plug(instance, vif)

    def unplug_vifs(self, instance, network_info):
        for vif in network_info:
            self._unplug(vif)

    def spawn(self, context, instance, *rest, network_info=None, **named):
        super().spawn(context, instance, *rest, network_info=network_info, **named)
        self.plug_vifs(instance, network_info or [])

    def destroy(self, context, instance, network_info, *rest, **named):
        super().destroy(context, instance, network_info, *rest, **named)
        self.unplug_vifs(instance, network_info or [])

    def attach_interface(self, context, instance, image_meta, vif):
        self._plug(instance, vif)

    def detach_interface(self, context, instance, vif):
        self._unplug(vif)

    def get_info(self, instance, use_cache=True):
        if instance.uuid in self.instances:
            return super().get_info(instance, use_cache)
        return hardware.InstanceInfo(state=instance.power_state)

    def power_on(self, context, instance, *rest, **named):
        self._recall(instance)
        return super().power_on(context, instance, *rest, **named)

    def power_off(self, instance, *rest, **named):
        self._recall(instance)
        return super().power_off(instance, *rest, **named)
