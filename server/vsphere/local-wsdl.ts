/**
 * The operations that Dozo calls, with their parameters in the order that the vSphere Web Services API
 * fixes. A host's own description is several megabytes; node-vsphere-soap gets this one instead.
 */
const OPERATIONS = {
  RetrieveServiceContent: ['_this'],
  Login: ['_this', 'userName', 'password', 'locale'],
  Logout: ['_this'],
  CreateContainerView: ['_this', 'container', 'type', 'recursive'],
  DestroyView: ['_this'],
  RetrievePropertiesEx: ['_this', 'specSet', 'options'],
  ContinueRetrievePropertiesEx: ['_this', 'token'],
  CancelRetrievePropertiesEx: ['_this', 'token'],
  CreateSnapshot_Task: ['_this', 'name', 'description', 'memory', 'quiesce'],
  RemoveSnapshot_Task: ['_this', 'removeChildren', 'consolidate'],
  QueryChangedDiskAreas: ['_this', 'snapshot', 'deviceKey', 'startOffset', 'changeId'],
  RegisterVM_Task: ['_this', 'path', 'name', 'asTemplate', 'pool', 'host'],
  UnregisterVM: ['_this'],
} as const;

export type Operation = keyof typeof OPERATIONS;

/** The service description that the tunnel hands to node-vsphere-soap. */
export function localWsdl(endpoint: string): string {
  const names = Object.keys(OPERATIONS) as Operation[];
  const each = (make: (name: Operation) => string): string => names.map(make).join('\n');
  return `<?xml version="1.0" encoding="UTF-8"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:vim25="urn:vim25" targetNamespace="urn:vim25">
<types><xsd:schema targetNamespace="urn:vim25" elementFormDefault="qualified">
${each(elements)}
</xsd:schema></types>
${each(
  (name) => `<message name="${name}RequestMsg"><part name="parameters" element="vim25:${name}"/></message>
<message name="${name}ResponseMsg"><part name="parameters" element="vim25:${name}Response"/></message>`,
)}
<portType name="VimPortType">
${each(
  (name) =>
    `<operation name="${name}"><input message="vim25:${name}RequestMsg"/><output message="vim25:${name}ResponseMsg"/></operation>`,
)}
</portType>
<binding name="VimBinding" type="vim25:VimPortType">
<soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
${each(
  (name) =>
    `<operation name="${name}"><soap:operation soapAction="urn:vim25" style="document"/><input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>`,
)}
</binding>
<service name="VimService"><port name="VimPort" binding="vim25:VimBinding"><soap:address location="${endpoint}"/></port></service>
</definitions>`;
}

function elements(name: Operation): string {
  const parameters = OPERATIONS[name].map(
    (parameter) => `<xsd:element name="${parameter}" type="xsd:anyType" minOccurs="0" maxOccurs="unbounded"/>`,
  );
  return `<xsd:element name="${name}"><xsd:complexType><xsd:sequence>${parameters.join('')}</xsd:sequence></xsd:complexType></xsd:element>
<xsd:element name="${name}Response"><xsd:complexType><xsd:sequence><xsd:element name="returnval" type="xsd:anyType" minOccurs="0"/></xsd:sequence></xsd:complexType></xsd:element>`;
}
