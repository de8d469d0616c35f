"""A hypervisor without guests for nova-compute, which loads it as `compute_driver = remembering.Driver`.

Nova's own fake driver forgets its guests when nova-compute ends, and then fails every act on them. This one believes
what Nova's database says of a guest that it does not know, so that servers outlive a restart of the stack. And it
leaves a file for each port that it has plugged into a guest, for the chassis to claim the port.
"""

import contextlib
import pathlib

import nova.conf
from nova.virt import fake, hardware


class Driver(fake.FakeDriverWithoutFakeNodes):
    """The fake driver with a stable node identity and plugged ports, made forgetful without harm."""

    def _recall(self, instance):
        if instance.uuid not in self.instances:
            self.instances[instance.uuid] = fake.FakeInstance(instance.name, instance.power_state, instance.uuid)

    @staticmethod
    def _plug_file(vif):
        return pathlib.Path(nova.conf.CONF.state_path, "plugged", vif["id"])

    def _plug(self, vif):
        self._interfaces[vif["id"]] = vif
        # To plug what is plugged changes nothing, not even the time of the file, by which the chassis knows a new one.
        with contextlib.suppress(FileExistsError):
            self._plug_file(vif).touch(exist_ok=False)

    def _unplug(self, vif):
        self._interfaces.pop(vif["id"], None)
        self._plug_file(vif).unlink(missing_ok=True)

    def plug_vifs(self, instance, network_info):
        for vif in network_info:
            self._plug(vif)

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
        self._plug(vif)

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
