export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';
/** `POST /jobs/:id/run` */
export type RouteAction = `${Uppercase<Method>} ${string}`;
