/** The text that lies in every repository, for whoever finds the folder years later. */
export function readmeText(repositoryId: string): string {
  return `This folder is a backup repository of Dozo. It holds the disks of virtual machines.
Repository ${repositoryId}, format 1.

DO NOT change, rename or delete single files here: every file is needed, and none is ever
changed after it was written. To copy or move the repository, copy the whole folder with any
tool (rsync, cp, the file manager of the NAS); that is safe even while a backup runs.

To bring machines back: install Dozo (on any NAS, or on a Linux PC), add this folder as an
existing repository, and choose a version to restore. No database and no setting of the old
installation is needed. If the repository is encrypted, its passphrase or recovery key is.

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
