/** Backs a machine up over iSCSI, to be killed meanwhile. Standard input: one line of JSON (`ChildOrder`). */
import { createInterface } from 'node:readline';
import { backUpInChild, type ChildOrder } from './iscsi-scene.ts';

const line = await new Promise<string>((resolve) => createInterface({ input: process.stdin }).once('line', resolve));
await backUpInChild(JSON.parse(line) as ChildOrder);
