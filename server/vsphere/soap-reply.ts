import { XMLParser } from 'fast-xml-parser';
import { kindOf } from './vim-types.ts';

/** An element as the parser gives it: attributes under `@name`, text under `#text`, children as arrays. */
type Node = { readonly '#text'?: string } & { readonly [name: string]: string | readonly Node[] | undefined };

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  alwaysCreateTextNode: true,
  htmlEntities: true, // Numeric character references count among these.
  isArray: (_name, _path, _isLeaf, isAttribute) => !isAttribute,
});

const NUMBERS = new Set([
  'int',
  'long',
  'short',
  'byte',
  'double',
  'float',
  'number',
  'Int',
  'Long',
  'Short',
  'Byte',
  'Double',
  'Float',
]);
const TEXTS = new Set([
  'string',
  'anyURI',
  'dateTime',
  'base64Binary',
  'anyType',
  'String',
  'AnyURI',
  'AnyType',
  'Base64Binary',
]);

/** A text that is not the reply which was asked for. */
export class ReplyUnreadable extends Error {}

export interface SoapFault {
  /** Type of the fault without prefix: `InvalidLogin`, `RestrictedVersion`, …; `Unknown` without detail. */
  type: string;
  /** The host's sentence. */
  text: string;
  /** The fault's own properties. */
  properties: Record<string, unknown>;
}

/**
 * The `returnval` of a reply as plain values (see `ObjectContent`): null where there is none, an array
 * where there are several. `kind` is its declared type.
 *
 * @throws ReplyUnreadable
 */
export function parseReply(xml: string, operation: string, kind: string): unknown {
  const response = body(xml)[`${operation}Response`];
  const node = typeof response === 'string' ? undefined : response?.[0];
  if (node === undefined) throw new ReplyUnreadable(`no ${operation}Response in the reply`);
  const values = children(node, 'returnval');
  if (kind.endsWith('[]')) return values.map((value) => convert(value, kind.slice(0, -2)));
  return values[0] === undefined ? null : convert(values[0], kind);
}

/** The fault in a reply, or null when the text holds none. */
export function parseFault(xml: string): SoapFault | null {
  let fault: Node | undefined;
  try {
    fault = children(body(xml), 'Fault')[0];
  } catch {
    return null;
  }
  if (fault === undefined) return null;
  const text = children(fault, 'faultstring')[0]?.['#text'] ?? '';
  const detail = children(fault, 'detail')[0];
  const name = detail === undefined ? undefined : Object.keys(detail).find((key) => isElement(key));
  const node = name === undefined || detail === undefined ? undefined : children(detail, name)[0];
  if (name === undefined || node === undefined) return { type: 'Unknown', text, properties: {} };
  const type = typeOf(node) ?? localName(name).replace(/Fault$/, '');
  const value = convert(node, type);
  const properties = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  return { type, text, properties };
}

function body(xml: string): Node {
  if (xml.includes('<!DOCTYPE')) throw new ReplyUnreadable('the reply defines entities of its own');
  if (!/<\/(\w+:)?Envelope>\s*$/.test(xml.slice(-100))) throw new ReplyUnreadable('the reply is cut short');
  let document: Node;
  try {
    document = parser.parse(xml) as Node;
  } catch (error) {
    throw new ReplyUnreadable(error instanceof Error ? error.message : String(error));
  }
  const envelope = named(document, 'Envelope');
  const found = envelope === undefined ? undefined : named(envelope, 'Body');
  if (found === undefined) throw new ReplyUnreadable('the reply is no SOAP envelope');
  return withoutPrefixes(found);
}

/** The first child of a name, under whatever prefix. */
function named(node: Node, name: string): Node | undefined {
  const key = Object.keys(node).find((candidate) => isElement(candidate) && localName(candidate) === name);
  return key === undefined ? undefined : children(node, key)[0];
}

function withoutPrefixes(node: Node): Node {
  return Object.fromEntries(
    Object.entries(node).map(([key, value]) => [isElement(key) ? localName(key) : key, value]),
  ) as Node;
}

function children(node: Node, name: string): readonly Node[] {
  const found = node[name];
  return typeof found === 'object' ? found : [];
}

function isElement(key: string): boolean {
  return !key.startsWith('@') && key !== '#text' && !key.startsWith('?');
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

/** `xsi:type` under whatever prefix the host binds; a plain `type` names a managed object's type. */
function typeOf(node: Node): string | undefined {
  for (const [key, value] of Object.entries(node)) {
    if (/^@[^:]+:type$/.test(key) && typeof value === 'string') return localName(value);
  }
  return undefined;
}

function convert(node: Node, declared: string | undefined): unknown {
  const kind = typeOf(node) ?? declared;
  const text = node['#text'] ?? '';
  const referenceType = node['@type'];
  if (
    kind === 'ManagedObjectReference' ||
    kind === 'reference' ||
    (typeof referenceType === 'string' && !hasChildren(node))
  ) {
    return { type: typeof referenceType === 'string' ? referenceType : '', value: text };
  }
  if (kind === 'boolean' || kind === 'Boolean') return text === 'true' || text === '1';
  if (kind !== undefined && NUMBERS.has(kind)) return Number(text);
  if (kind !== undefined && TEXTS.has(kind)) return text;
  if (kind?.startsWith('ArrayOf') === true) {
    const elementKind = kind.slice('ArrayOf'.length);
    return Object.keys(node)
      .filter(isElement)
      .flatMap((name) => children(node, name).map((child) => convert(child, elementKind)));
  }
  // An enumeration has a type of its own and is text; so has a data object without properties, and is none.
  if (!hasChildren(node) && (typeOf(node) === undefined || text.trim() !== '')) return text;
  return convertObject(node, kind);
}

function convertObject(node: Node, type: string | undefined): Record<string, unknown> {
  const result: Record<string, unknown> = type === undefined ? {} : { _type: type };
  for (const name of Object.keys(node).filter(isElement)) {
    const kind = type === undefined ? undefined : kindOf(type, name);
    const nodes = children(node, name);
    const isList = kind?.endsWith('[]') === true || nodes.length > 1;
    const values = nodes.map((child) => convert(child, kind?.replace(/\[\]$/, '')));
    result[name] = isList ? values : values[0];
  }
  return result;
}

function hasChildren(node: Node): boolean {
  return Object.keys(node).some(isElement);
}
