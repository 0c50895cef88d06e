/** Rules of this house for ESLint; `house-rules.test.ts` shows each one failing. */

/** A package with one home is imported nowhere else. Option: package → allowed path prefixes. */
export const noForeignPackage = {
  meta: { type: 'problem', schema: [{ type: 'object' }] },
  create(context) {
    const homes = context.options[0] ?? {};
    const file = context.filename.replaceAll('\\', '/');
    return {
      ImportDeclaration(node) {
        const home = homes[node.source.value];
        if (home !== undefined && !home.some((prefix) => file.includes(`/${prefix}`))) {
          context.report({ node, message: `'${node.source.value}' lives in ${home.join(', ')} only.` });
        }
      },
    };
  },
};

/**
 * A command for a host is built by the `shell` tag, which quotes every value. Passing a plain
 * template with values to `exec` or `open` of a connection would let a VM's name run as a command.
 */
export const noUnquotedCommand = {
  meta: { type: 'problem', schema: [] },
  create(context) {
    return {
      CallExpression(node) {
        const method = node.callee.type === 'MemberExpression' ? node.callee.property.name : undefined;
        const first = node.arguments[0];
        if (
          (method === 'exec' || method === 'open') &&
          first?.type === 'TemplateLiteral' &&
          first.expressions.length > 0
        ) {
          context.report({ node: first, message: 'Build remote commands with the shell tag, which quotes values.' });
        }
      },
      TSAsExpression(node) {
        if (context.filename.includes('/server/ssh/')) return;
        if (context.sourceCode.getText(node.typeAnnotation) === 'ShellCommand') {
          context.report({ node, message: 'A ShellCommand is made by the shell tag only.' });
        }
      },
    };
  },
};
