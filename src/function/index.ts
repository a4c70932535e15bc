export { defineFunction } from './define.ts';
export type { Context, FunctionEvent, InvocationInfo } from './context.ts';
export type { Balance, Delivery, FunctionDefinition, FunctionOptions } from './definition.ts';
export type { FunctionReference, InputOf, OutputOf } from './reference.ts';
export type { Position } from './stack.ts';
