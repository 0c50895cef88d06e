/** The text that lies in every repository, for whoever finds the folder years later. */
export function readmeText(repositoryId: string): string {
  return `This folder is a backup repository of Dozo. It holds the disks of virtual machines.
Repository ${repositoryId}, format 1.

DO NOT change, rename or delete single files here: every file is needed, and none is ever
changed after it was written. To copy or move the repository, copy the whole folder with any
tool (rsync, cp, the file manager of the NAS); that is safe even while a backup runs.

TO BRING MACHINES BACK WITHOUT DOZO, on any computer with Node 20.3 or later (nodejs.org),
from this folder or from a copy of it:

  node dozo-restore-<version>.js list
  node dozo-restore-<version>.js verify
  node dozo-restore-<version>.js restore <machine> <new folder> --format vmdk

With --format raw or none the disks are plain images. The machine's configuration (.vmx) is
written beside them. An encrypted repository asks for its passphrase or the 24 words of its
recovery key; without either nobody can read it. The last dozo-restore file is the best one.

To bring them back with Dozo: install it (on any NAS, or on a Linux PC), add this folder as an
existing repository, and choose a version to restore. No database and no setting of the old
installation is needed.

What the files are:
  repository.dozo   what kind of repository this is
  points/           one file a version (restore point) of a machine
  packs/            the contents of the disks, cut into chunks, compressed; each chunk once
  index/            a list of what is in the packs; made again from them when it is missing
  sessions/         notes of backups under way, or interrupted
  keys/             (encrypted repositories) the key, locked with passphrases
  condemned/        lists of packs that a clean-up is about to remove
  tmp/              files being written; whatever is older than a day may be deleted

Every byte of these files is described in docs/repository-format.md of the project, in enough
detail to write a program that restores without Dozo.
`;
}
