import { createRouter, createWebHashHistory } from 'vue-router';
import { hosts, isLoaded, overview } from '../api/catalogue.ts';
import { may, resumeSession } from '../api/session.ts';
import type { Permission } from '../api/types.ts';
import { readPreferences } from '../composables/preferences.ts';

/** How long what a page shows may take to come before its place is given up. */
const TALL_WITHIN_MS = 3_000;
const OWN_HAND = ['wheel', 'touchmove', 'pointerdown', 'keydown'] as const;

/** A place on a page, once the page reaches down to it; false when somebody goes elsewhere meanwhile. */
function whenTall(place: { top: number; left: number }): Promise<typeof place | false> {
  return new Promise((resolve) => {
    const { documentElement: root } = document;
    const look = (): void => {
      if (root.scrollHeight >= place.top + innerHeight) end(place);
    };
    const resizes = new ResizeObserver(look);
    const giveUp = (): void => end(false);
    const timer = setTimeout(giveUp, TALL_WITHIN_MS);
    for (const kind of OWN_HAND) addEventListener(kind, giveUp, { passive: true });
    resizes.observe(document.body);
    function end(answer: typeof place | false): void {
      clearTimeout(timer);
      resizes.disconnect();
      for (const kind of OWN_HAND) removeEventListener(kind, giveUp);
      resolve(answer);
    }
  });
}

declare module 'vue-router' {
  interface RouteMeta {
    /** Who may not do that has no use for the page. */
    needs?: Permission;
  }
}

/** Addresses lie behind the hash: the server need not know them, whatever path a NAS puts before. */
export const router = createRouter({
  history: createWebHashHistory(),
  // A page begins at its top; who goes back finds it as they left it. Steps and filters of a page are the page's own.
  scrollBehavior(to, from, saved) {
    if (to.path === from.path) return false;
    return saved === null ? { top: 0 } : whenTall(saved);
  },
  routes: [
    { path: '/login', name: 'login', component: () => import('../pages/LoginPage.vue') },
    {
      path: '/',
      component: () => import('./AppFrame.vue'),
      children: [
        { path: '', name: 'overview', component: () => import('../pages/OverviewPage.vue') },
        {
          path: 'welcome',
          name: 'welcome',
          component: () => import('../pages/WelcomePage.vue'),
          meta: { needs: 'configure' },
        },
        { path: 'machines', name: 'machines', component: () => import('../pages/MachinesPage.vue') },
        { path: 'tasks', name: 'tasks', component: () => import('../pages/TasksPage.vue') },
        {
          path: 'tasks/new',
          name: 'task-new',
          component: () => import('../pages/TaskPage.vue'),
          meta: { needs: 'configure' },
        },
        {
          path: 'tasks/:id',
          name: 'task-edit',
          component: () => import('../pages/TaskPage.vue'),
          props: true,
          meta: { needs: 'view' },
        },
        {
          path: 'restore',
          name: 'restore',
          component: () => import('../pages/RestorePage.vue'),
          meta: { needs: 'restore' },
        },
        { path: 'activities', name: 'activities', component: () => import('../pages/ActivitiesPage.vue') },
        { path: 'activities/:id', name: 'run', component: () => import('../pages/RunPage.vue'), props: true },
        {
          path: 'storage',
          name: 'storage',
          component: () => import('../pages/StoragePage.vue'),
          meta: { needs: 'view' },
        },
        {
          path: 'storage/:id',
          name: 'versions',
          component: () => import('../pages/VersionsPage.vue'),
          props: true,
          meta: { needs: 'view' },
        },
        {
          path: 'versions/:id/files',
          name: 'guest-files',
          component: () => import('../pages/GuestFilesPage.vue'),
          props: true,
          meta: { needs: 'restore' },
        },
        { path: 'settings', name: 'settings', component: () => import('../pages/SettingsPage.vue') },
        { path: ':rest(.*)*', redirect: { name: 'overview' } },
      ],
    },
  ],
});

router.beforeEach(async (to) => {
  if (to.name === 'login') return true;
  const isIn = await resumeSession().catch(() => false);
  if (!isIn) return { name: 'login', query: { to: to.fullPath } };
  if (to.meta.needs !== undefined && !may(to.meta.needs)) return { name: 'overview' };
  const isNew = isLoaded.value && hosts.value.length === 0 && overview.value?.jobs === 0 && may('configure');
  if (to.name === 'overview' && isNew && !readPreferences().guideDone) return { name: 'welcome' };
  return true;
});
