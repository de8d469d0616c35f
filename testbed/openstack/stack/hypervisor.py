"""A hypervisor without guests for nova-compute, which loads it as `compute_driver = remembering.Driver`.

Nova's own fake driver forgets its guests when nova-compute ends, and then fails every act on them. This one believes
what Nova's database says of a guest that it does not know, so that servers outlive a restart of the stack.
"""

from nova.virt import fake, hardware


class Driver(fake.FakeDriverWithoutFakeNodes):
    """The fake driver with a stable node identity, made forgetful without harm."""

    def _recall(self, instance):
        if instance.uuid not in self.instances:
            self.instances[instance.uuid] = fake.FakeInstance(instance.name, instance.power_state, instance.uuid)

    def get_info(self, instance, use_cache=True):
        if instance.uuid in self.instances:
            return super().get_info(instance, use_cache)
        return hardware.InstanceInfo(state=instance.power_state)

    def attach_interface(self, context, instance, image_meta, vif):
        self._interfaces[vif["id"]] = vif

    def detach_interface(self, context, instance, vif):
        self._interfaces.pop(vif["id"], None)

    def power_on(self, context, instance, *rest, **named):
        self._recall(instance)
        return super().power_on(context, instance, *rest, **named)

    def power_off(self, instance, *rest, **named):
        self._recall(instance)
        return super().power_off(instance, *rest, **named)
