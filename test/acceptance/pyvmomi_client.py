"""Drives an ESXi host with pyVmomi and prints what it saw as one JSON document.

usage: pyvmomi_client.py PORT USER MACHINE PREVIOUS_CHANGE_IDS   (password on standard input)
PREVIOUS_CHANGE_IDS is a JSON object from device key to changeId; without an entry `*` is asked for.
With `operations` in its place the machine is switched off, renamed, re-registered and switched on.
"""
import json
import ssl
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl


def describe_disk(disk):
    chain, backing = [], disk.backing
    while backing is not None:
        chain.append(backing.fileName)
        backing = backing.parent
    return {
        'key': disk.key,
        'capacityBytes': disk.capacityInBytes,
        'backing': type(disk.backing).__name__,
        'chain': chain,
        'uuid': disk.backing.uuid,
        'changeId': disk.backing.changeId,
        'diskMode': disk.backing.diskMode,
    }


def disks_of(config):
    return [describe_disk(d) for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]


def describe_machine(machine):
    return {
        'id': machine._moId,
        'name': machine.name,
        'vmPathName': machine.config.files.vmPathName,
        'uuid': machine.config.uuid,
        'powerState': machine.runtime.powerState,
        'hasSnapshots': machine.snapshot is not None,
        'consolidationNeeded': machine.runtime.consolidationNeeded,
        'macAddresses': [d.macAddress for d in machine.config.hardware.device
                         if isinstance(d, vim.vm.device.VirtualEthernetCard)],
        'datastores': [d.name for d in machine.datastore],
        'disks': disks_of(machine.config),
    }


def changed_areas(machine, snapshot, disk, change_id):
    areas, offset, calls = [], 0, 0
    while offset < disk['capacityBytes']:
        reply = machine.QueryChangedDiskAreas(snapshot, disk['key'], offset, change_id)
        if reply.startOffset != offset or reply.length <= 0:
            raise RuntimeError('reply for %d covers %d+%d' % (offset, reply.startOffset, reply.length))
        areas += [[a.start, a.length] for a in reply.changedArea]
        offset = reply.startOffset + reply.length
        calls += 1
    return {'areas': areas, 'calls': calls}


def fault_name(error):
    return type(error).__name__.split('.')[-1]


def snapshot_run(machine, previous):
    """Takes a snapshot, reads its changed areas, removes it."""
    seen = {}
    try:
        task = machine.CreateSnapshot_Task('acceptance', 'taken by pyVmomi', False, False)
    except vmodl.MethodFault as error:
        return {'refused': fault_name(error), 'text': error.msg}
    WaitForTask(task)
    snapshot = task.info.result
    seen['snapshot'] = snapshot._moId
    seen['tree'] = [[t.name, t.description, t.id, t.quiesced, t.state] for t in machine.snapshot.rootSnapshotList]
    seen['live'] = disks_of(machine.config)
    seen['frozen'] = disks_of(snapshot.config)
    seen['changed'] = {}
    for disk in seen['frozen']:
        try:
            areas = changed_areas(machine, snapshot, disk, previous.get(str(disk['key']), '*'))
        except vmodl.MethodFault as error:
            areas = {'refused': fault_name(error), 'keys': [m.key for m in error.faultMessage]}
        seen['changed'][str(disk['key'])] = areas
    WaitForTask(snapshot.RemoveSnapshot_Task(False))
    seen['after'] = describe_machine(machine)
    return seen


def outcome(start):
    """Result of a task or call, or its fault."""
    try:
        result = start()
        if isinstance(result, vim.Task):
            task = result
            try:
                WaitForTask(task)
            except vmodl.MethodFault:
                pass
            if task.info.error is not None:
                return 'fault ' + fault_name(task.info.error)
            result = task.info.result
        return result._moId if hasattr(result, '_moId') else result
    except vmodl.MethodFault as error:
        return 'fault ' + fault_name(error)


def operations_run(content, machine):
    """Every other call that changes something, with the refusals between them."""
    folder = content.rootFolder.childEntity[0].vmFolder
    pool = machine.resourcePool
    path = machine.config.files.vmPathName
    seen = []

    def step(name, start):
        seen.append([name, outcome(start)])

    step('power on again', machine.PowerOnVM_Task)
    step('first snapshot', lambda: machine.CreateSnapshot_Task('first', '', False, True))
    step('second snapshot', lambda: machine.CreateSnapshot_Task('second', '', False, False))
    step('tree', lambda: [[t.name, t.quiesced, [c.name for c in t.childSnapshotList]]
                          for t in machine.snapshot.rootSnapshotList])
    step('remove all', machine.RemoveAllSnapshots_Task)
    step('power off', machine.PowerOffVM_Task)
    step('power off again', machine.PowerOffVM_Task)
    step('reconfigure', lambda: machine.ReconfigVM_Task(vim.vm.ConfigSpec(
        name='re%2fnamed', annotation='two\nlines', changeTrackingEnabled=False)))
    step('name', lambda: [machine.name, machine.config.annotation, machine.config.changeTrackingEnabled])
    step('register twice', lambda: folder.RegisterVM_Task(path, None, False, pool))
    step('unregister', machine.UnregisterVM)
    step('gone', lambda: machine.name)
    step('register nothing', lambda: folder.RegisterVM_Task(path + '.none', None, False, pool))
    step('register', lambda: folder.RegisterVM_Task(path, None, False, pool))
    again = next(m for m in folder.childEntity if m.config.files.vmPathName == path)
    step('name again', lambda: again.name)
    step('power on', again.PowerOnVM_Task)
    step('state', lambda: again.runtime.powerState)
    datastore = again.datastore[0]
    step('browse', lambda: sorted(
        f.path for f in browse(datastore, path[:path.rindex('/')]).file if f.path.endswith('.vmx')))
    return seen


def browse(datastore, folder):
    task = datastore.browser.SearchDatastore_Task(folder, vim.host.DatastoreBrowser.SearchSpec())
    WaitForTask(task)
    return task.info.result


def main():
    port, user, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    previous = None if sys.argv[4] == 'operations' else json.loads(sys.argv[4])
    password = sys.stdin.readline().rstrip('\n')
    service = SmartConnect(host='127.0.0.1', port=port, user=user, pwd=password,
                           sslContext=ssl._create_unverified_context())
    try:
        content = service.content
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
        machines = list(view.view)
        view.Destroy()
        machine = next(m for m in machines if m.name == name)
        if previous is None:
            print(json.dumps(operations_run(content, machine)))
            return
        print(json.dumps({
            'about': [content.about.apiType, content.about.productLineId, content.about.version],
            'edition': content.licenseManager.licenses[0].editionKey,
            'machines': [describe_machine(m) for m in machines],
            'run': snapshot_run(machine, previous),
        }))
    finally:
        Disconnect(service)


main()
